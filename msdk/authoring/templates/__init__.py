"""One part of each kind, short and complete: what `msdk plugin new` begins a package with."""
