# SPDX-License-Identifier: GPL-2.0
"""rurdma and the drivers it must understand: siw in the first namespace, rurdma
in another one at the other end of a veth. And peers that are scripts, for what those cannot say."""

from lab import bystander, harmless, lab
from mutations import seeds
from roce_lab import roce_bystander, roce_harmless, roce_lab, roce_pair

__all__ = ["bystander", "harmless", "lab", "roce_bystander", "roce_harmless", "roce_lab", "roce_pair", "seeds"]
