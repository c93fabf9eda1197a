"""What setup.cfg cannot say: the compiled part, which is built when asked for and never needed.

MEGABROKER_BUILD_COMPILED=1 pip install .    needs a C compiler; pip brings Cython
"""

import os

from setuptools import Extension, setup

if os.environ.get("MEGABROKER_BUILD_COMPILED", "0") not in ("", "0"):
    setup(
        setup_requires=["cython >= 3.1"],
        ext_modules=[
            Extension(
                "megabroker.net.compiled",
                ["megabroker/net/compiled.pyx"],
                extra_compile_args=["-O2", "-Wall"],
            )
        ],
    )
else:
    setup()
