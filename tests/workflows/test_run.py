"""What `assay run` publishes."""

from __future__ import annotations

from assay.workflows.run import without_folders


def test_a_published_command_has_no_folder_of_this_machine() -> None:
    command = "assay run skip --data '/home/me/my data/flowers' --attack.eps 8/255 --note a/b"
    assert without_folders(command) == (
        "assay run skip --data flowers --attack.eps 8/255 --note a/b"
    )
