# SPDX-License-Identifier: GPL-2.0
"""rurdma and the drivers it must understand: siw in the first namespace, rurdma
in another one at the other end of a veth."""

from lab import bystander, harmless, lab

__all__ = ["bystander", "harmless", "lab"]
