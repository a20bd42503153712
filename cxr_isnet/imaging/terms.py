"""The closed sets of values that tables and messages may quote of a header; the rest is "other".

A code string may be anything of 16 capitals, a medical record number among them (PS3.5, 6.2); a text may be a name.
"""

from __future__ import annotations

from cxr_isnet.imaging.vocabulary import words_of

OTHER = "other"
"""What stands for a value outside of a closed set."""


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


TERMS: dict[str, frozenset[str]] = {
    "Modality": _set(
        """AR AS AU BDUS BI BMD CF CP CR CS CT DD DF DG DM DOC DR DS DX EC ECG EEG EM EMG EPS ES FA FS GM HC HD IO IVOCT
        IVUS KER KO LEN LP LS MA MG MR MS NM OAM OCT OP OPM OPT OPV OSS OT PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTPLAN
        RTRECORD RTSTRUCT RWV SC SEG SM SMR SR SRF ST STAIN TG US VA VF XA XC XR"""
    ),
    "PhotometricInterpretation": frozenset({"PALETTE COLOR"})
    | _set(
        """MONOCHROME1 MONOCHROME2 RGB HSV ARGB CMYK XYB YBR_FULL YBR_FULL_422 YBR_PARTIAL_422 YBR_PARTIAL_420 YBR_ICT
        YBR_RCT"""
    ),
    "BodyPartExamined": _set(
        """ABDOMEN ABDOMENPELVIS ANKLE ARM BREAST CALCANEUS CERVIX CHEST CHESTABDOMEN CHESTABDPELVIS CLAVICLE COCCYX
        CSPINE CTSPINE ELBOW EXTREMITY EYE FACE FEMUR FINGER FOOT FOREARM HAND HEAD HEADNECK HEART HIP HUMERUS JAW KNEE
        LEG LSPINE LSSPINE LUNG MAXILLA NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV NOSE ORBIT PELVIS RIB SCAPULA
        SHOULDER SKULL SPINE SSPINE STERNUM THIGH THORAX THUMB TLSPINE TOE TSPINE WHOLEBODY WRIST ZYGOMA"""
    ),
}
"""Values by keyword: PS3.3, C.7.3.1.1.1 (modality) and C.7.6.3.1.2 (photometric interpretation); PS3.16, Annex L."""

NO_RADIOGRAPHS = _set(
    """AR AS AU BI BMD CT DOC ECG EEG EMG EPS ES GM HC HD IVOCT IVUS KO LEN MR NM OAM OCT OP OPM OPT OPV PR PT REG RESP
    RTDOSE RTPLAN RTRECORD RTSTRUCT RWV SEG SM SMR SR SRF STAIN TG US XC"""
)
"""Values of Modality of what is no projection radiograph, and cannot be rendered as one."""

_MANUFACTURERS = {
    "Agfa": "AGFA", "Allengers": "ALLENGERS", "Angell": "ANGELL", "Arcoma": "ARCOMA", "BMI": "BMI", "Canon": "CANON",
    "CareRay": "CARERAY", "Carestream": "CARESTREAM", "DMS": "DMS", "DRTECH": "DRTECH", "Dürr": "DURR DUERR",
    "Examion": "EXAMION", "Fujifilm": "FUJI FUJIFILM", "GE": "GE GEMS", "GMM": "GMM", "Hitachi": "HITACHI",
    "Hologic": "HOLOGIC", "iCRco": "ICRCO", "Innomed": "INNOMED", "iRay": "IRAY", "Italray": "ITALRAY", "JPI": "JPI",
    "Kodak": "KODAK EASTMAN", "Konica Minolta": "KONICA KONICAMINOLTA", "Listem": "LISTEM", "Lodox": "LODOX",
    "Lumisys": "LUMISYS", "Mindray": "MINDRAY", "Neusoft": "NEUSOFT", "Oldelft": "OLDELFT", "Philips": "PHILIPS",
    "Poskom": "POSKOM", "Protec": "PROTEC", "Rayence": "RAYENCE", "Samsung": "SAMSUNG", "Sedecal": "SEDECAL",
    "Shimadzu": "SHIMADZU", "Siemens": "SIEMENS", "Stephanix": "STEPHANIX", "Swissray": "SWISSRAY",
    "Toshiba": "TOSHIBA", "Trixell": "TRIXELL", "Varex": "VAREX", "Varian": "VARIAN", "Vieworks": "VIEWORKS",
    "Visaris": "VISARIS", "Wandong": "WANDONG",
}  # fmt: skip
_SEXES = {
    **dict.fromkeys(("f", "w", "female", "woman", "weiblich", "femme", "femenino", "mujer", "femminile"), "F"),
    **dict.fromkeys(("m", "male", "man", "männlich", "homme", "masculino", "hombre", "maschile"), "M"),
    **dict.fromkeys(("o", "other", "d", "diverse", "divers"), "O"),
}
_BY_FIRST_WORD = {word: name for name, words in _MANUFACTURERS.items() for word in words.split()}
_BY_TWO_WORDS: dict[tuple[str, ...], str] = {
    ("GENERAL", "ELECTRIC"): "GE",
    ("IMAGING", "DYNAMICS"): "Imaging Dynamics",
    ("OEHM", "UND"): "Oehm und Rehbein",
    ("UNITED", "IMAGING"): "United Imaging",
    ("VILLA", "SISTEMI"): "Villa Sistemi Medicali",
}


def manufacturer(text: str) -> str:
    """The manufacturer that a text begins with, "" of an empty text, `OTHER` of any other."""
    words = words_of(text)
    if not words:
        return OTHER if text else ""
    return _BY_TWO_WORDS.get(words[:2], _BY_FIRST_WORD.get(words[0], OTHER))


def sex(text: str) -> str:
    """`F`, `M`, `O`, or "" where unknown; w and d are the initials of the German words."""
    return _SEXES.get(text.strip().lower(), "")
