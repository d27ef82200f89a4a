"""Draws meshes of spheres with Open3D, in a process of its own: a missing driver may kill that process.

Started as a script by `pcdistill.viewing.open3d.offscreen`, which says what is in the file it reads. It imports
nothing else of the package, so that it starts quickly and no second OpenMP run-time joins Open3D's.
"""

import os
import sys

import numpy as np


def main(source: str) -> None:
    """Write pictures `(side, side, 3)` uint8, one after the other, to the standard output; black is empty."""
    # Open3D prints there too: what it says goes to the standard error.
    pictures = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    import open3d as o3d

    with np.load(source, allow_pickle=False) as data:
        side, ends = int(data["side"]), np.cumsum(data["counts"])[:-1]
        ball, faces, radii = data["ball"], data["faces"], data["radii"]
        gain, gloss, darkest = data["gain"][:, None], data["gloss"][:, None], float(data["darkest"])
        centres, paints = np.split(data["centres"], ends), np.split(data["colours"], ends)
        focal, distance = data["camera"].tolist()

    visualizer = o3d.visualization.Visualizer()
    if not visualizer.create_window(width=side, height=side, visible=False):
        raise RuntimeError("Open3D could not create an off-screen window")
    option = visualizer.get_render_option()
    option.background_color = np.zeros(3)
    option.light_on = False  # the light is in the colours, so that both renderers agree

    camera = o3d.camera.PinholeCameraParameters()
    middle = side / 2 - 0.5
    camera.intrinsic = o3d.camera.PinholeCameraIntrinsic(side, side, focal, focal, middle, middle)
    extrinsic = np.diag([1.0, -1.0, -1.0, 1.0])  # Open3D's camera has y down and looks along +z
    extrinsic[2, 3] = distance
    camera.extrinsic = extrinsic

    for centre, paint, radius in zip(centres, paints, radii, strict=True):
        vertices = centre[:, None] + radius * ball
        triangles = faces + len(ball) * np.arange(len(centre), dtype=np.int32)[:, None, None]
        mesh = o3d.geometry.TriangleMesh(
            o3d.utility.Vector3dVector(vertices.reshape(-1, 3).astype(np.float64)),
            o3d.utility.Vector3iVector(triangles.reshape(-1, 3)),
        )
        lit = np.clip(paint[:, None] * gain + gloss, darkest, 1.0)
        mesh.vertex_colors = o3d.utility.Vector3dVector(lit.reshape(-1, 3).astype(np.float64))
        visualizer.clear_geometries()
        visualizer.add_geometry(mesh)
        visualizer.get_view_control().convert_from_pinhole_camera_parameters(camera, True)
        drawn = np.asarray(visualizer.capture_screen_float_buffer(True)) * 255 + 0.5
        pictures.write(drawn.astype(np.uint8).tobytes())
        pictures.flush()
    visualizer.destroy_window()


if __name__ == "__main__":
    main(*sys.argv[1:])
