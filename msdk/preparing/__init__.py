"""`msdk data prepare`: archives as they are published, made into the one file that training reads."""

from msdk.preparing.crops import CROPS as CROPS
from msdk.preparing.making import ARCHIVES as ARCHIVES
from msdk.preparing.making import Archive as Archive
from msdk.preparing.making import Prepared as Prepared
from msdk.preparing.making import prepare as prepare
