"""The sets of the catalog: facts that are known of them before they are read, and where they may lie."""

from collections.abc import Mapping
from dataclasses import dataclass

from pcdistill.data import project
from pcdistill.data.layouts import modelnet_hdf5, modelnet_text, scanobjectnn, shapenet, shapenetpart, tree
from pcdistill.data.layouts.layout import Layout


@dataclass(frozen=True)
class Entry:
    """A catalog set: its facts, and the relative places it may lie in, best first.

    Attributes:
        classes, train, test: official numbers of classes and of clouds per split.
        licence: what the owners allow, in one line.
        url: where to get it.
        card: its description, a file of `datasets/`.
        places: path below the data folder -> the layout to expect there.
        cites: keys in `references.bib` of the papers that it comes from; empty for what is our own.
        parts: whether its points have parts; else those in its file are passed over, and it is a set of objects.
    """

    classes: int
    train: int
    test: int
    licence: str
    url: str
    card: str
    places: tuple[tuple[str, Layout], ...]
    cites: tuple[str, ...]
    parts: bool = False


RESEARCH = "academic research only; the CAD models belong to their authors"
PRINCETON = "https://modelnet.cs.princeton.edu"
SCAN_LICENCE = "research and education only, by a form of terms of use"
SCAN_URL = "https://hkust-vgd.github.io/scanobjectnn/"
SHAPENET_URL = "https://github.com/Julie-tang00/Point-BERT/blob/master/DATASET.md"
SCAN_COUNTS = {"OBJ_ONLY": (2309, 581), "OBJ_BG": (2309, 581)}


def _scan(variant: str) -> Entry:
    train, test = SCAN_COUNTS.get(variant, (11416, 2882))
    places = tuple((place, scanobjectnn.LAYOUT) for place in scanobjectnn.places(variant))
    return Entry(15, train, test, SCAN_LICENCE, SCAN_URL, "scanobjectnn.md", places, ("uy2019scanobjectnn",))


CATALOG: Mapping[str, Entry] = {
    "modelnet10": Entry(
        10,
        3991,
        908,
        RESEARCH,
        PRINCETON,
        "modelnet10.md",
        (
            ("modelnet10_2048.h5", project.LAYOUT),
            ("modelnet40_normal_resampled", modelnet_text.MODELNET10),
            ("ModelNet10", tree.MODELNET),
        ),
        ("wu2015modelnet",),
    ),
    "modelnet40": Entry(
        40,
        9843,
        2468,
        RESEARCH,
        PRINCETON,
        "modelnet40.md",
        (
            ("modelnet40_1024.h5", project.LAYOUT),
            ("modelnet40_ply_hdf5_2048", modelnet_hdf5.LAYOUT),
            ("modelnet40_normal_resampled", modelnet_text.LAYOUT),
            ("ModelNet40", tree.MODELNET),
        ),
        ("wu2015modelnet",),
    ),
    "psb19_parts": Entry(
        19,
        266,
        114,
        "no licence stated for meshes or labels; research use",
        "https://segeval.cs.princeton.edu",
        "psb19_parts.md",
        (("psb19_parts_2048.h5", project.LAYOUT),),
        ("kalogerakis2010learning", "chen2009segmentation", "giorgi2007shrec"),
        parts=True,
    ),
    "psb19": Entry(
        19,
        266,
        114,
        "no licence stated for the meshes; research use",
        "https://segeval.cs.princeton.edu",
        "psb19.md",
        (("psb19_2048.h5", project.LAYOUT),),
        ("chen2009segmentation", "giorgi2007shrec"),
    ),
    "sydney14": Entry(
        14,
        433,
        155,
        "no licence stated; research use",
        "https://www.acfr.usyd.edu.au/papers/SydneyUrbanObjectsDataset.shtml",
        "sydney14.md",
        (("sydney14_1024.h5", project.LAYOUT),),
        ("dedeuge2013sydney",),
    ),
    "dales5": Entry(
        5,
        349,
        150,
        "no licence stated; research use",
        "https://github.com/wvanteeffelen/Machine-Learning-ASS2",
        "dales5.md",
        (("dales5_1024.h5", project.LAYOUT),),
        ("varney2020dales",),
    ),
    "grasp5_parts": Entry(
        5,
        350,
        151,
        "no licence stated; the authors ask to cite them; research use",
        "https://github.com/yikun-li/pc-3d-grasp-ds",
        "grasp5.md",
        (("grasp5_1024.h5", project.LAYOUT),),
        ("li2020grasp",),
        parts=True,
    ),
    "grasp5": Entry(
        5,
        350,
        151,
        "no licence stated; the authors ask to cite them; research use",
        "https://github.com/yikun-li/pc-3d-grasp-ds",
        "grasp5.md",
        (("grasp5_1024.h5", project.LAYOUT),),
        ("li2020grasp",),
    ),
    "neurons_cortex2_parts": Entry(
        2,
        768,
        329,
        "CC BY 4.0 (NeuroMorpho.Org)",
        "https://neuromorpho.org",
        "neurons_cortex2.md",
        (("neurons_cortex2_2048.h5", project.LAYOUT),),
        ("markram2015cortex", "tecuatl2024neuromorpho"),
        parts=True,
    ),
    "neurons_cortex2": Entry(
        2,
        768,
        329,
        "CC BY 4.0 (NeuroMorpho.Org)",
        "https://neuromorpho.org",
        "neurons_cortex2.md",
        (("neurons_cortex2_2048.h5", project.LAYOUT),),
        ("markram2015cortex", "tecuatl2024neuromorpho"),
    ),
    "neurons_medulla17": Entry(
        17,
        155,
        68,
        "CC BY 4.0 (NeuroMorpho.Org)",
        "https://neuromorpho.org",
        "neurons_medulla17.md",
        (("neurons_medulla17_1024.h5", project.LAYOUT),),
        ("takemura2013motion", "tecuatl2024neuromorpho"),
    ),
    **{f"scanobjectnn:{variant}": _scan(variant) for variant in scanobjectnn.VARIANTS},
    "shapenet": Entry(
        55,
        41952,
        10518,
        "non-commercial research and education, by ShapeNet's terms of use",
        SHAPENET_URL,
        "shapenet.md",
        (("ShapeNet55-34", shapenet.LAYOUT), ("ShapeNet55", shapenet.LAYOUT), ("shapenet", shapenet.LAYOUT)),
        ("chang2015shapenet", "yu2022pointbert"),
    ),
    "shapenetpart": Entry(
        16,
        14007,
        2874,
        "non-commercial research and education, by ShapeNet's terms of use",
        "https://shapenet.cs.stanford.edu/media/shapenetcore_partanno_segmentation_benchmark_v0_normal.zip",
        "shapenetpart.md",
        (
            ("shapenetcore_partanno_segmentation_benchmark_v0_normal", shapenetpart.TEXT),
            ("shapenet_part_seg_hdf5_data", shapenetpart.HDF5),
            ("hdf5_data", shapenetpart.HDF5),
        ),
        ("yi2016scalable",),
        parts=True,
    ),
    "shapes": Entry(10, 1000, 400, "CC0-1.0; made by the project's code", "built in", "shapes.md", (), ()),
    "shapes_parts": Entry(10, 1000, 400, "CC0-1.0; made by the project's code", "built in", "shapes.md", (), ()),
}
