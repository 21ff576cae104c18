"""References in the order of a dictionary: Łojasiewicz stands under L, and braces round a name do not move it."""

import unicodedata

from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style
from pybtex.style.sorting.author_year_title import SortingStyle


class Dictionary(SortingStyle):
    def person_key(self, person):
        r"""The name in plain lower-case letters.

        >>> from pybtex.database import Person
        >>> names = [r"{\L}ojasiewicz, Stanis{\l}aw", "Milnor, J.", "{Der Kiureghian}, Armen", r"H{\"u}llermeier, Eyke"]
        >>> [Dictionary().person_key(Person(name)).split()[0] for name in names]
        ['lojasiewicz', 'milnor', 'der', 'hullermeier']
        """
        parts = person.prelast_names + person.last_names, person.first_names + person.middle_names, person.lineage_names
        name = "  ".join(" ".join(str(Text.from_latex(word)) for word in words) for words in parts)
        letters = unicodedata.normalize("NFKD", name.lower().replace("ł", "l").replace("ø", "o"))
        return "".join(letter for letter in letters if not unicodedata.combining(letter))


class PlainInOrder(Style):
    default_sorting_style = Dictionary


def setup(app):
    register_plugin("pybtex.style.formatting", "plain_in_order", PlainInOrder)
