"""An image as a demand names it."""

from __future__ import annotations

from yapapi.payload import vm
from yapapi.payload.package import Package
from yapapi.props.builder import DemandBuilder

from oracle.compute.golem.terms import Image


class ImagePackage(Package):
    """An image by its digest, at a URL that providers fetch."""

    def __init__(self, image: Image, memory_gib: float) -> None:
        self._image = image
        self._constraints = vm._VmConstraints(min_mem_gib=memory_gib, min_storage_gib=1.0, min_cpu_threads=1)

    async def resolve_url(self) -> str:
        """As a provider reads it."""
        return f"hash:sha3:{self._image.sha3_224}:{self._image.url}"

    async def decorate_demand(self, demand: DemandBuilder) -> None:
        """Ask for the image and a machine that bears it."""
        demand.ensure(str(self._constraints))
        demand.add(vm.VmRequest(package_url=await self.resolve_url(), package_format=vm.VmPackageFormat.GVMKIT_SQUASH))
