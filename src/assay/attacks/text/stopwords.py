"""Words that carry grammar or polarity rather than content, and stay when an attack keeps them."""

from __future__ import annotations

_WORDS = """
    a about above across after afterwards again against all almost alone along already also
    although am among amongst an and another any anyhow anyone anything anyway anywhere are
    aren't around as at be because been before beforehand behind being below beside besides
    between beyond both but by can can't cannot could couldn't did didn't do does doesn't doing
    don't down due during each either else elsewhere enough even ever everyone everything
    everywhere except few first for former formerly from further had hadn't has hasn't have
    haven't he hence her here hereafter hereby herein hereupon hers herself him himself his how
    however hundred i if in indeed into is isn't it it's its itself just latter latterly least
    less lest may maybe me meanwhile might mine more moreover most mostly must mustn't my myself
    namely need needn't neither never nevertheless next no nobody none noone nor not nothing now
    nowhere o of off on once one only onto or other others otherwise our ours ourselves out over
    own per please quite rather re s same shan't she should shouldn't since so some somehow
    something sometime sometimes somewhere such t than that that's the their theirs them
    themselves then thence there thereafter thereby therefore therein thereupon these they this
    those through throughout thru thus to together too toward towards under unless until up upon
    used very via was wasn't we were weren't what whatever when whence whenever where whereafter
    whereas whereby wherein whereupon wherever whether which while whither who whoever whole
    whom whose why with within without won't would wouldn't y yet you you'd you'll you're you've
    your yours yourself yourselves
"""

STOP_WORDS = frozenset(_WORDS.split())
"""English; much the same as those that TextFooler keeps, which are nltk's and spaCy's together."""
