"""Guess which columns speak of people: by their names, and by what their values look like.

Knows names and texts; knows nothing of what becomes of such columns. A guess errs on the side of
the person: a wrong `personal` costs a feature, a wrong `public` costs somebody's privacy.
"""

import ipaddress
import re
from collections.abc import Callable, Sequence

from app.contracts.rows import Privacy
from app.data.kinds import words_of

SHARE = 0.5
NUM_LOOKED_AT = 500
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[A-Za-z]{2,}")
PHONE = re.compile(r"(\+|00)[\d\s().-]{7,20}|\(?\d{3}\)?[\s.-]\d{3}[\s.-]\d{4}")
SSN = re.compile(r"\d{3}-\d{2}-\d{4}")
NINO = re.compile(r"[A-CEGHJ-PR-TW-Z]{2} ?\d{2} ?\d{2} ?\d{2} ?[A-D]")
IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
PERSON = re.compile(r"[^\W\d_][\w'’.-]*,\s+[^\W\d_].*|([A-Z][\w'’.-]+\s+){1,3}[A-Z][\w'’.-]+")

PERSONAL_WORDS = {
    "email": "an e-mail address",
    "mail": "an e-mail address",
    "phone": "a telephone number",
    "mobile": "a telephone number",
    "telephone": "a telephone number",
    "fax": "a telephone number",
    "firstname": "a name",
    "lastname": "a name",
    "surname": "a name",
    "fullname": "a name",
    "username": "a name",
    "ssn": "a national id",
    "passport": "a national id",
    "nin": "a national id",
    "iban": "an account",
    "address": "an address",
    "street": "an address",
    "ip": "an IP address",
    "dob": "a date of birth",
    "birthday": "a date of birth",
    "birthdate": "a date of birth",
}
PERSONAL_PAIRS = {
    ("date", "birth"): "a date of birth",
    ("birth", "date"): "a date of birth",
    ("first", "name"): "a name",
    ("last", "name"): "a name",
    ("middle", "name"): "a name",
    ("family", "name"): "a name",
    ("given", "name"): "a name",
    ("full", "name"): "a name",
    ("user", "name"): "a name",
    ("customer", "name"): "a name",
    ("patient", "name"): "a name",
    ("card", "number"): "a card number",
    ("tax", "id"): "a national id",
    ("national", "id"): "a national id",
    ("social", "security"): "a national id",
    ("driver", "license"): "a national id",
    ("license", "plate"): "a number plate",
}
QUASI_WORDS = frozenset(
    words_of(
        "age_sex_gender_zip_zipcode_postcode_postal_plz_city_town_county_nationality_citizenship"
        "_ethnicity_race_religion_marital_occupation_job_profession_education_educ_income_salary"
        "_latitude_longitude_lat_lon_lng_children_dependents_disability_diagnosis_neighborhood"
        "_birthplace_language"
    )
)


def guess_privacy(name: str, values: Sequence[str]) -> tuple[Privacy, str]:
    """Guess the class of a column and say why; `values` are some of its texts.

    >>> guess_privacy("contact", ["ann@example.org", "bob@example.org"])
    ('personal', 'values look like e-mail addresses')
    >>> guess_privacy("age", ["31", "40"])[0], guess_privacy("price", ["31", "40"])[0]
    ('quasi', 'public')
    """
    words = words_of(name)
    looks = _looks_like([value for value in values if value][:NUM_LOOKED_AT])
    if looks:
        return "personal", f"values look like {looks}"
    named = _named(words)
    if named:
        return "personal", f"the name says {named}"
    if words and words[-1] in ("name", "names") and _share(values, PERSON.fullmatch) >= SHARE:
        return "personal", "values look like names of people"
    quasi = [word for word in words if word in QUASI_WORDS]
    if quasi or ("birth" in words and "year" in words):
        return "quasi", f"{quasi[0] if quasi else 'birth year'} narrows down who it is"
    return "public", ""


def _named(words: Sequence[str]) -> str:
    for pair, what in PERSONAL_PAIRS.items():
        if set(pair) <= set(words):
            return what
    return next((PERSONAL_WORDS[word] for word in words if word in PERSONAL_WORDS), "")


def _looks_like(values: Sequence[str]) -> str:
    patterns: dict[str, Callable[[str], object]] = {
        "e-mail addresses": EMAIL.fullmatch,
        "telephone numbers": PHONE.fullmatch,
        "national ids": lambda text: SSN.fullmatch(text) or NINO.fullmatch(text),
        "account numbers": _is_iban,
        "card numbers": _is_card,
        "IP addresses": _is_ip,
    }
    if not values:
        return ""
    return next((what for what, fits in patterns.items() if _share(values, fits) >= SHARE), "")


def _share(values: Sequence[str], fits: Callable[[str], object]) -> float:
    return sum(bool(fits(value)) for value in values) / max(len(values), 1)


def _is_iban(text: str) -> bool:
    """Check an IBAN's number as ISO 13616 says: letters as 10 to 35, the rest by 97 is 1."""
    bare = text.replace(" ", "")
    if not IBAN.fullmatch(bare):
        return False
    return int("".join(str(int(letter, 36)) for letter in bare[4:] + bare[:4])) % 97 == 1


def _is_card(text: str) -> bool:
    """Check a card's number by its last digit (Luhn, ISO/IEC 7812)."""
    bare = re.sub(r"[ -]", "", text)
    if not re.fullmatch(r"[2-6]\d{12,18}", bare):
        return False
    digits = [int(digit) for digit in reversed(bare)]
    return (sum(digits[::2]) + sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2])) % 10 == 0


def _is_ip(text: str) -> bool:
    if not re.fullmatch(r"[\d.]{7,15}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+", text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
