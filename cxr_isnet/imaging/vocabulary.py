# ruff: noqa: RUF001  Greek and Cyrillic words consist of letters that look like Latin ones
"""Words for body parts and views in the languages of Europe and Latin America.

Words are compared without accents and in capitals. A stem of five letters or more (four in Greek and Cyrillic) counts
anywhere in a word, so that it covers endings and compounds; a shorter one, and one after `=`, is a whole word. Left out
are words that mean something else in another of the languages: `main` (hand in French), `pie` (foot, but also standing,
in Spanish), `Brust` (chest or breast).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

_CHEST = """
    CHEST CHST THORA TORAX TORAC TORAK LUNG LUNGS PULMON PULMO CXR RIB RIBS STERNUM TORSO PECHO PEITO COSTILLA COSTELA
    COTES COSTE PULMAO PULMOES POLMON GABBIA COSTAL POUMON POITRINE CAGE LUNGE LUNGEN BRUSTKORB RIPPEN BORSTKAS LONGEN
    KLATKA KLATKI PIERSIOW PLUCA HRUDNIK HRUDNIH PLICE PLUC MELLKAS GRUDNI GRUDI PRSNI PLJUCA PRSNEGA LUNGOR LUNGER
    BROSTKORG BRYSTKASSE BRYSTKAS KEUHKO RINTAKEHA RINDKERE KOPSUD KRUSKURV PLAUSAS PLAUSU KRUTINES PLAUCIU AKCIGER
    GOGUS KRAHAROR HEART MEDIASTIN BRONCH CORAZON ΘΩΡΑΚ ΠΝΕΥΜΟΝ ГРУД ЛЕГКИ ЛЕГЕН ОГК ГРЪД ГРЪДЕН ГРЪДНА ПЛУЋА ТОРАКС
    ЛЕГЕНЬ
"""

_SPINE = """
    SPINE SPINAL VERTEBR COLUMNA COLUNA COLONNE COLONNA COLOANA RACHIS RACHIDE WIRBEL BWS KREGOSLUP PATER GERINC
    KRALJEZ KICMA HRBTENICA RYGG SELKARANKA OMURGA SPONDYL SCOLIOSIS ESCOLIOSIS SKOLIOSE ΣΠΟΝΔΥΛ ΣΠΟΝΔΥΛΙΚΗ ПОЗВОНОЧ
    ГРЪБНАЧ
"""
"""Beside a word for the thorax, these make it the thoracic spine."""

_ELSEWHERE = """
    ABDOM ABD KUB PELVIS PELVIC HIP HIPS KNEE KNEES FOOT FEET ANKLE TOE TOES LEG LEGS FEMUR TIBIA FIBULA PATELLA
    CALCAN HEEL THIGH HAND HANDS =HANDE HAENDE WRIST FINGER THUMB ELBOW FOREARM HUMERUS SHOULDER CLAVIC SCAPULA
    RADIUS ULNA EXTREM ARM ARMS SKULL HEAD CRANI SINUS SINUSES ORBIT MANDIB NASAL FACIAL TEETH TOOTH DENTAL JAW TMJ
    NECK LUMBAR LUMBAL LUMBOS CERVICAL SACRUM SACRAL COCCYX BREAST MAMMO MAMMA MAMOG WHOLEBODY BABYGRAM PANORAM FUSS
    GELENK KNIE HUFT HUEFT BECKEN SCHULTER SCHADEL SCHAEDEL ELLENBOG UNTERARM OBERARM SCHENKEL SPRUNGGEL ZEHE ZEHEN
    LWS HWS KOPF ZAHN ZAHNE KIEFER NASENBEIN BEIN BEINE VOORVOET POLS ELLEBOOG SCHOUDER ENKEL VOET HEUP BEKKEN
    SCHEDEL BUIK MANO MANOS MAO MAOS MUNECA CODO HOMBRO OMBRO COTOVELO PUNHO RODILLA JOELHO GINOCCHI TOBILLO
    TORNOZELO CAVIGLIA PIEDE PIEDI CADERA QUADRIL ANCA BACINO PELVE CRANEO FEMORE GOMITO POLSO SPALLA BRAZO BRACO
    BRACCIO PIERNA PERNA GAMBA ADDOME DEDO DITO POIGNET COUDE EPAULE GENOU CHEVILLE PIED PIEDS HANCHE BASSIN CRANE
    BRAS JAMBE DOIGT DLON REKA NADGARST LOKIEC BARK KOLAN STOPA STOPY MIEDNIC CZASZK BRZUCH RUKA RUKY KOLENO NOHA
    RAMENO PANEV PANVE LEBKA LEBKY BRICHO LOKET ZAPEST KOTNIK KEZ TERD BOKA VALL CSIPO KOPONYA KNA KNAE FOT FOD HOFT
    HOFTE SKULDER BUK SKALLE HANDLED FOTLED KASI POLVI JALKA NILKKA OLKAPAA LONKKA VATSA RANNE DIZ AYAK OMUZ KALCA
    KAFATASI BATIN DIRSEK BILEK OPG ORTHOPAN ORTOPAN ESOPHAG ESOFAG OSOPHAG CUELLO PESCOCO =COLLO HALS GENUNCH
    PICIOR UMAR BAZIN GLEZNA SAKA KOLJENO STOPALO ZDJELICA KARLICA LUBANJA GLEZENJ ΧΕΡΙ ΓΟΝΑΤ ΠΟΔΙ ΩΜΟΣ ΛΕΚΑΝΗ ΚΡΑΝΙ
    ΚΟΙΛΙΑ КИСТ КОЛЕН СТОПА СТОПЫ ПЛЕЧ ТАЗ ТАЗА ЧЕРЕП ЖИВОТ БРЮШН КОЛЯНО
"""

_LATERAL = """
    LL RL LAT LLAT RLAT =LATERAL =LATERALE =LATERALES =LATERALI =LATERALIS =LATERALNO =LATERALNA =LATERALNI
    =LATERALT =LATERAAL =LATERALA LATEROLATERAL PERFIL PROFIL PROFIEL SAGIT SEITLICH SEITL DWARS BOK BOCZN BOCNI BOCNY
    BOCNA BOCNE BOCNO OLDALIRANY OLDALSO YAN SIVUKUVA SIVU SIDEBILD SIDEBILLED SIDOBILD KULGVAADE KULGULES SANU SONINE
    ΠΛΑΓΙ БОКОВ БІЧН ПРОФИЛ СТРАНИЧН
"""
_OBLIQUE = """
    OBL OBLIQ OBLICU OBLICUA SCHRAG SKRA SKOS SKOSN SIKM SIKMA FERDE SEITENLAGE LORDOT APICAL AXIAL TANGENT
    LLD RLD LLO RLO LAO RAO LPO RPO ΛΟΞΗ КОСАЯ
"""
_PA = """
    PA POSTEROANTER POSTERIORANTERIOR DORSOVENTRAL ZADOPREDN TYLNOPRZEDN ACHTERVOOR ΟΠΙΣΘΟΠΡΟΣΘ ЗАДНЕПЕРЕДН
"""
_AP = """
    AP ANTEROPOSTER ANTERIORPOSTERIOR VENTRODORSAL PREDOZADN PRZEDNIOTYLN VOORACHTER ΠΡΟΣΘΟΠΙΣΘ ПЕРЕДНЕЗАДН
"""
_DECUBITUS = ("DECUB",)
_FLAT = ("SUPIN", "PRONO")
_BACK_OR_FRONT = ("DORSAL", "VENTRAL")
_FRONTAL = "FRONTAL FRONT FACE FRENTE FATA ETUKUVA SZEMBOL ΜΕΤΩΠΙΑ ПРЯМАЯ ПРЯМОЙ"

_LETTERS = str.maketrans({"Ł": "L", "Ø": "O", "Đ": "D", "Æ": "AE", "Œ": "OE", "İ": "I", "ẞ": "SS"})
_APART = re.compile(r"(?<!\w)([AP](?=\W+[AP])|L(?=\W+L))\s?[./-]{1,2}\s?([APL])(?!\w)")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORD = re.compile(r"[^\W\d_]+")


def _plain(text: str) -> str:
    """Capitals without accents."""
    decomposed = unicodedata.normalize("NFKD", text.upper()).translate(_LETTERS)
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def _stems(text: str) -> tuple[str, ...]:
    return tuple(_plain(text).split())


_PA_STEMS, _AP_STEMS = _stems(_PA), _stems(_AP)
_CHEST_STEMS, _SPINE_STEMS, _ELSEWHERE_STEMS = _stems(_CHEST), _stems(_SPINE), _stems(_ELSEWHERE)
_VIEW_STEMS = {
    "PA": _PA_STEMS,
    "AP": _AP_STEMS,
    "frontal": _stems(_FRONTAL),
    "lateral": _stems(_LATERAL),
    "other": _stems(_OBLIQUE),
}


@lru_cache(maxsize=1024)
def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in capitals without accents.

    `p.a.`, `P/A`, `L.L.` and `postero-anterior` are one word each, `ChestLat` is two.
    """
    words = _WORD.findall(_APART.sub(r"\1\2", _plain(_CAMEL.sub(" ", text))))
    joined = (first + second for first, second in pairwise(words) if len(first) > 4)
    return (*words, *(word for word in joined if _has((word,), (*_PA_STEMS, *_AP_STEMS))))


def _has(words: Iterable[str], stems: Iterable[str]) -> bool:
    """Whether a word is one of the stems, or contains a long one."""
    return any(_matches(word, stem) for word in words for stem in stems)


def _matches(word: str, stem: str) -> bool:
    if stem.startswith("="):
        return word == stem[1:]
    return word == stem or (len(stem) >= (5 if stem.isascii() else 4) and stem in word)


@lru_cache(maxsize=1024)
def is_chest(text: str, own: tuple[str, ...] = ()) -> bool | None:
    """Whether a text names the chest (True), other parts of the body only (False), or none (None).

    Args:
        text: of a tag.
        own: a hospital's own words for the chest.
    """
    words = words_of(text)
    if _has_own(words, own):
        return True
    spine = _has(words, _SPINE_STEMS)
    if _has(words, _CHEST_STEMS) and not spine:
        return True
    return False if spine or _has(words, _ELSEWHERE_STEMS) else None


@lru_cache(maxsize=1024)
def views_in(text: str, own_frontal: tuple[str, ...] = (), own_lateral: tuple[str, ...] = ()) -> frozenset[str]:
    """The views that a text names, as `View` spells them.

    Args:
        text: of a tag.
        own_frontal: a hospital's own words for a frontal view.
        own_lateral: a hospital's own words for a lateral view.
    """
    words = words_of(text)
    own = {"frontal": own_frontal, "lateral": own_lateral}
    found = {view for view, stems in _VIEW_STEMS.items() if _has(words, stems) or _has_own(words, own.get(view, ()))}
    if _has(words, _DECUBITUS) and not _lies_flat(words, found):
        found.add("other")
    return frozenset(found)


def _lies_flat(words: tuple[str, ...], views: set[str]) -> bool:
    """Whether a decubitus is one on the back or front with a vertical beam: `decubito supino`, `decubito dorsal AP`."""
    frontal = bool(views & {"AP", "PA"}) and _has(words, _BACK_OR_FRONT)
    return "lateral" not in views and (frontal or _has(words, _FLAT))


def _has_own(words: tuple[str, ...], own: tuple[str, ...]) -> bool:
    """Whether all words of one of a hospital's own terms are there."""
    terms = [set(words_of(term)) for term in own]
    return any(term and term <= set(words) for term in terms)
