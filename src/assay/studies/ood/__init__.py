"""Does a classifier know what it does not know?"""

from assay.studies.ood.study import OOD as OOD
