"""Array to batch: preprocessing, stores of read images, planted marks, augmentation, loaders."""

from cxr_isnet.data.alterations import background_only, dilate, fill_lungs, lungs_only, most_relevant, paste_lungs
from cxr_isnet.data.augmentation import AugmentConfig, RandDevicesXrayd, RandExposureXrayd, RandPoseXrayd
from cxr_isnet.data.datasets import CXRDataset, make_dataset, make_transform, site_names
from cxr_isnet.data.image_store import FolderStore, ImageStore, MemoryStore, make_store
from cxr_isnet.data.imposed_changes import IMPOSED_CHANGES, ImposedChange, blur
from cxr_isnet.data.loaders import EpochSampler, loading_processes, make_loader, set_epoch
from cxr_isnet.data.pairs import check_files, read_pair
from cxr_isnet.data.planted_marks import MarkConfig, MarkKind, MarkMode, PlantMarkd, find_position, stamp
from cxr_isnet.data.preparation import ImageConfig, equalize, load_image, prepare_image, prepare_mask
from cxr_isnet.data.transforms import EqualizeXrayd, LoadChestXrayd

__all__ = [
    "IMPOSED_CHANGES",
    "AugmentConfig",
    "CXRDataset",
    "EpochSampler",
    "EqualizeXrayd",
    "FolderStore",
    "ImageConfig",
    "ImageStore",
    "ImposedChange",
    "LoadChestXrayd",
    "MarkConfig",
    "MarkKind",
    "MarkMode",
    "MemoryStore",
    "PlantMarkd",
    "RandDevicesXrayd",
    "RandExposureXrayd",
    "RandPoseXrayd",
    "background_only",
    "blur",
    "check_files",
    "dilate",
    "equalize",
    "fill_lungs",
    "find_position",
    "load_image",
    "loading_processes",
    "lungs_only",
    "make_dataset",
    "make_loader",
    "make_store",
    "make_transform",
    "most_relevant",
    "paste_lungs",
    "prepare_image",
    "prepare_mask",
    "read_pair",
    "set_epoch",
    "site_names",
    "stamp",
]
