"""The `.env` file lies under the real environment, is taken literally, and belongs to one user."""

from __future__ import annotations

import pytest

from whatsapp_tokens import environment as environment_module
from whatsapp_tokens.environment import BadSettings, read_environment


@pytest.fixture
def env_file(tmp_path):
    def write(content, mode=0o600):
        path = tmp_path / ".env"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return write


def test_the_file_lies_under_the_real_environment(env_file):
    path = env_file("A=file\nB=file\nC=file\n")
    assert read_environment({"B": "real", "C": "", "D": "real"}, path) == (
        {"A": "file", "B": "real", "C": "", "D": "real"},
        [],
    )


def test_no_file_is_no_problem(tmp_path):
    assert read_environment({"A": "real"}, tmp_path / ".env") == ({"A": "real"}, [])


def test_the_environment_that_was_given_stays_as_it_is(env_file):
    real = {"A": "real"}
    read_environment(real, env_file("B=file\n"))
    assert real == {"A": "real"}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("X=pa${HOME}ss", "pa${HOME}ss"),
        ("X=pa$HOME", "pa$HOME"),
        ("X='${HOME:-x}'", "${HOME:-x}"),
        ('X="${A}"', "${A}"),
        ("X=pa#ss", "pa#ss"),
        ("X=pa ss # a comment", "pa ss"),
        ("X='pa #ss'", "pa #ss"),
        ('X=it\'s "quoted"', 'it\'s "quoted"'),
        ("X='\"quoted\"'", '"quoted"'),
        ("X=back\\slash\\n", "back\\slash\\n"),
        ("X=a=b=", "a=b="),
        ("X=contraseña", "contraseña"),
        ("X=  around  ", "around"),
        ("X=", ""),
        ("export X=exported", "exported"),
        ("X=windows\r", "windows"),
        ("\ufeffX=after a byte order mark", "after a byte order mark"),
    ],
)
def test_a_value_in_the_file_is_taken_literally(line, value, env_file):
    found, _ = read_environment({}, env_file(f"{line}\nA=expanded\n"))
    assert found == {"X": value, "A": "expanded"}


def test_a_name_without_a_value_is_not_set(env_file):
    assert read_environment({}, env_file("X\nY=1\n"))[0] == {"Y": "1"}


@pytest.mark.parametrize("content", ["X=contraseña".encode("latin-1"), "X=1".encode("utf-16")])
def test_a_file_that_is_not_utf8_is_refused_without_showing_it(content, env_file):
    path = env_file(content)
    with pytest.raises(BadSettings) as bad:
        read_environment({}, path)
    assert bad.value.problems == [f"{path}: it cannot be read (it is not UTF-8 text)"]


def test_a_file_that_the_system_refuses_is_refused(monkeypatch, env_file):
    def refuse(*_args, **_options):
        raise PermissionError("zq7")

    monkeypatch.setattr(environment_module, "parse_stream", refuse)
    path = env_file("X=1\n")
    with pytest.raises(BadSettings) as bad:
        read_environment({}, path)
    assert bad.value.problems == [f"{path}: it cannot be read (PermissionError)"]


@pytest.mark.parametrize(
    ("mode", "done"),
    [
        (0o640, "read"),
        (0o604, "read"),
        (0o644, "read"),
        (0o440, "read"),
        (0o664, "read and changed"),
        (0o606, "read and changed"),
        (0o620, "changed"),
        (0o602, "changed"),
    ],
)
def test_a_file_that_others_can_read_or_change_gets_a_warning(mode, done, env_file):
    path = env_file("X=1\n", mode)
    assert read_environment({}, path) == (
        {"X": "1"},
        [f"{path} can be {done} by other users of this machine; run: chmod 600 {path}"],
    )


def test_a_credential_of_systemd_gets_none_although_its_access_list_shows_as_a_group(env_file, tmp_path):
    path = env_file("X=1\n", 0o440)
    assert read_environment({"CREDENTIALS_DIRECTORY": str(tmp_path)}, path)[1] == []
    assert read_environment({"CREDENTIALS_DIRECTORY": str(tmp_path / "other")}, path)[1] != []


def test_a_folder_instead_of_the_file_is_said_to_be_ignored(tmp_path):
    assert read_environment({"A": "real"}, tmp_path) == (
        {"A": "real"},
        [f"{tmp_path} is a folder and was ignored: settings belong in a file"],
    )


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700, 0o711])
def test_a_file_that_only_its_owner_can_read_gets_none(mode, env_file):
    assert read_environment({}, env_file("X=1\n", mode))[1] == []
