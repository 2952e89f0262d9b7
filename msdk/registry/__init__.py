"""One registry per kind of part: names in, classes out, nothing imported before it is asked for.

A name has one of three owners: msdk itself (a lazy `"module:Class"` line in the package of its kind), an installed
distribution (an entry point in the group `msdk.<kind>`), or the running program (the `add` decorator). Listing names
imports none of them; a lookup imports only the part that it names. Two packages that own one name are refused at the
lookup, and `"distribution:name"` picks one of them; a name of who brings the kind, of msdk, stays theirs.
"""

from msdk.registry.discovery import Origin as Origin
from msdk.registry.kinds import KINDS as KINDS
from msdk.registry.kinds import Kind as Kind
from msdk.registry.lookup import Registry as Registry
from msdk.registry.lookup import is_base as is_base
from msdk.registry.lookup import registries as registries
from msdk.registry.lookup import registry_for as registry_for
from msdk.registry.lookup import registry_of as registry_of
from msdk.registry.lookup import registry_of_part as registry_of_part
