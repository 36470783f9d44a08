import pytest

from greenhouse.settings import SETTINGS, SettingsError, describe, read_settings


def test_defaults_are_enough_to_start():
    settings = read_settings({})
    assert settings.port == 8000
    assert settings.tokens == ()
    assert settings.open_loopback_reads is False


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("GREENHOUSE_PORT", "70000", "a whole number from 0 to 65535"),
        ("GREENHOUSE_PORT", "abc", "got 'abc'"),
        ("GREENHOUSE_SPOOL_MAX", "2", "a size such as 500MB or 2GB"),
        ("GREENHOUSE_SPOOL_MAX", "9MB", "at least 10MB"),
        ("GREENHOUSE_SPOOL_MIN_FREE", "5%", "a share from 0 to below 1"),
        ("GREENHOUSE_LOG_FORMAT", "xml", "one of text, json"),
        ("GREENHOUSE_OPEN_LOOPBACK_READS", "yes", "true or false"),
        ("GREENHOUSE_STOP_TIMEOUT", "10", "a duration with its unit"),
        ("GREENHOUSE_PROT", "1", "no such setting (did you mean GREENHOUSE_PORT?)"),
        ("GREENHOUSE_TOKEN_FILE", "/nowhere/token", "cannot read '/nowhere/token'"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name, text, said):
    with pytest.raises(SettingsError) as error:
        read_settings({name: text})
    assert str(error.value).startswith(name)
    assert said in str(error.value)


def test_every_mistake_is_reported_in_one_go():
    with pytest.raises(SettingsError) as error:
        read_settings({"GREENHOUSE_PORT": "x", "GREENHOUSE_LOG_LEVEL": "loud"})
    assert len(str(error.value).splitlines()) == 2


def test_secrets_come_from_files_that_others_cannot_read(tmp_path):
    file = tmp_path / "token"
    file.write_text("one\ntwo\n")
    file.chmod(0o600)
    settings = read_settings({"GREENHOUSE_TOKEN_FILE": str(file)})
    assert settings.tokens == ("one", "two")
    assert "one" not in describe(settings)
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="readable by everyone"):
        read_settings({"GREENHOUSE_TOKEN_FILE": str(file)})


def test_each_setting_says_what_it_is_for():
    assert all(setting.help for setting in SETTINGS)
