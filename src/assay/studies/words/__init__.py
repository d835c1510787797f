"""How easily is a text classifier fooled?"""

from assay.studies.words.study import WordStudy as WordStudy
