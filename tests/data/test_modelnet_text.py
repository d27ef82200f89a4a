"""modelnet40_normal_resampled: text with normals, split lists, both families."""

import numpy as np
import pytest

from pcdistill.core.errors import InputError
from pcdistill.data import load
from pcdistill.data.prepare import Wanted

CLASSES = ["bed", "night_stand", "vase"]


@pytest.fixture
def folder(tmp_path, random_points):
    root = tmp_path / "modelnet40_normal_resampled"
    points = iter(random_points(9, 50))
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in (1, 2, 3):
            rows = np.hstack([next(points), np.full((50, 3), 0.5)])
            np.savetxt(root / name / f"{name}_{number:04d}.txt", rows, fmt="%.6f", delimiter=",")
    for family, names in (("modelnet40", CLASSES), ("modelnet10", CLASSES[:2])):
        (root / f"{family}_shape_names.txt").write_text("\n".join(names))
        for split, numbers in (("train", (1, 2)), ("test", (3,))):
            lines = [f"{name}_{number:04d}" for name in names for number in numbers]
            (root / f"{family}_{split}.txt").write_text("\n".join(lines) + "\n")
    return root


def test_listed_objects_without_normals_turned_to_z_up(folder, random_points, reference, to_z_up):
    clouds = load(folder)
    expected = to_z_up(reference(random_points(9, 50)[[0, 1, 3, 4, 6, 7]]))
    np.testing.assert_allclose(clouds.points, expected, atol=1e-5)
    assert clouds.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert clouds.class_names == tuple(CLASSES)
    assert clouds.provenance["stored_up_axis"] == "y"
    first = load(folder, "test", points=20)
    np.testing.assert_allclose(first.points, to_z_up(reference(random_points(9, 50)[[2, 5, 8], :20])), atol=1e-5)


def test_the_ten_class_lists(folder):
    from pcdistill.data.layouts.modelnet_text import MODELNET10

    clouds = MODELNET10.read(folder, "train", Wanted(20))
    assert clouds.class_names == ("bed", "night_stand")
    assert clouds.labels.tolist() == [0, 0, 1, 1]
    assert clouds.provenance["name"] == "modelnet10"


def test_bad_text(folder):
    with pytest.raises(InputError, match=r"bed_0001\.txt: 50 points per cloud, expected at least the 51"):
        load(folder, points=51)
    (folder / "vase" / "vase_0002.txt").write_text("1,2,3,0,0,1\n1,2,x,0,0,1\n")
    with pytest.raises(InputError, match=r"vase_0002\.txt: unreadable"):
        load(folder)
    (folder / "vase" / "vase_0002.txt").write_text("1,2,3,0,0,1\n1,nan,3,0,0,1\n")
    with pytest.raises(InputError, match=r"vase_0002\.txt: NaN or infinite coordinates"):
        load(folder)
    (folder / "vase" / "vase_0002.txt").unlink()
    with pytest.raises(InputError, match=r"vase_0002\.txt: no such file"):
        load(folder)
    (folder / "modelnet40_train.txt").write_text("bed_0001\nhat_0001\n")
    with pytest.raises(InputError, match=r"modelnet40_train\.txt: object 'hat_0001' of no known class"):
        load(folder)


def test_unequal_files_get_one_number_of_first_lines_or_repeats(folder, random_points, reference, to_z_up):
    path = folder / "bed" / "bed_0002.txt"
    rows = np.loadtxt(path, delimiter=",")
    np.savetxt(path, rows[:30], fmt="%.6f", delimiter=",")
    clouds = load(folder, points=40)
    raw = random_points(9, 50)
    expected = to_z_up(reference(np.stack([raw[0][:40], np.concatenate([raw[1][:30], raw[1][:10]])])))
    np.testing.assert_allclose(clouds.points[:2], expected, atol=1e-5)
    assert (clouds.provenance["filled"], clouds.provenance["least_points"]) == (1, 30)
    assert load(folder).points_per_cloud == 1024
    with pytest.raises(InputError, match=r"bed_0002\.txt: 30 points, expected at least 31 \(--least-points\)"):
        load(folder, points=40, least_points=31)
    assert len(load(folder, points=40, least_points=31, skip_bad=True)) == 5


def test_lines_behind_those_that_are_wanted_are_looked_at(folder):
    path = folder / "vase" / "vase_0002.txt"
    path.write_text(path.read_text() + "nan,0,0,0,0,1\n")
    with pytest.raises(InputError, match=r"vase_0002\.txt: NaN or infinite coordinates"):
        load(folder, points=10)


@pytest.mark.parametrize("name", ["/etc", "..", "a\0b", "../up"])
def test_names_do_not_lead_out_of_the_folder(folder, name):
    (folder / "modelnet40_shape_names.txt").write_text("\n".join([*CLASSES, name]))
    (folder / "modelnet40_train.txt").write_text(f"bed_0001\n{name}_0001\n")
    with pytest.raises(InputError, match=r"modelnet40_train\.txt: object '.*', expected a name within the folder"):
        load(folder)
