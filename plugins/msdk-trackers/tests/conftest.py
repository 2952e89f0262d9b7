"""Where trackio keeps what tests tell it: it looks once, when it is imported."""

import os
import tempfile

os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="msdk-trackio-")
