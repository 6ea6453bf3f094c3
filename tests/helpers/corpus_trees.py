"""Small trees of corpora in their exact layouts, with their peculiarities."""

from __future__ import annotations

import json
from pathlib import Path

NO_AUDIO = b"no audio: importers open no file"


def write(path: Path, text: str | bytes = NO_AUDIO) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


MSP_ROWS = (
    # FileName, EmoClass, EmoAct, EmoVal, EmoDom, SpkrID, Gender, Split_Set
    ("MSP-PODCAST_0001_0008", "N", "2.2", "4.0", "2.6", "30", "Male", "Train"),
    ("MSP-PODCAST_0001_0009", "A", "5.777778", "1.555556", "3.777778", "30", "Male", "Train"),
    ("MSP-PODCAST_0002_0001", "X", "4.0", "5.0", "6.0", "Unknown", "Unknown", "Train"),
    ("MSP-PODCAST_0002_0002", "H", "6.0", "6.5", "5.0", "Unknown", "Female", "Development"),
    ("MSP-PODCAST_0003_0001", "S", "1.5", "2.0", "3.0", "39", "Female", "Development"),
    ("MSP-PODCAST_0004_0001", "U", "3.5", "3.0", "4.0", "41", "Male", "Test1"),
    ("MSP-PODCAST_0004_0002", "C", "3.0", "2.5", "4.5", "41", "Male", "Test2"),
    ("MSP-PODCAST_0005_0001", "F", "4.5", "2.5", "2.5", "42", "Female", "Test1"),
)
MSP_RATERS = {  # arousal, valence, dominance of the first utterance, by rater
    "WORKER00000018": (1.0, 4.0, 2.0),
    "WORKER00000001": (3.0, 3.0, 4.0),
    "WORKER00000300": (2.6, 5.0, 1.8),
}


def msp_podcast(root: Path, version: str = "1.11") -> Path:
    """Write one release, with the layout and the spellings of its version."""
    number = tuple(map(int, version.split(".")))
    folder = root / f"MSP-PODCAST-{version}"
    labels = folder / {"1.6": "label", "1.9": "labels"}.get(version, "Labels")
    consensus = "labels_concensus.csv" if number <= (1, 9) else "labels_consensus.csv"
    own_columns = number >= (1, 7)
    audio = folder / ("Audio" if number <= (1, 7) else "Audios")
    names = ["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom"]
    lines = [",".join([*names, "SpkrID", "Gender", "Split_Set"] if own_columns else names)]
    for name, code, a, v, d, speaker, gender, split in MSP_ROWS:
        if number <= (1, 9):
            split = {"Development": "Validation"}.get(split, split)
        cells = [f"{name}.wav", code, a, v, d]
        lines.append(",".join([*cells, speaker, gender, split] if own_columns else cells))
        write(audio / f"{name}.wav")
    write(labels / consensus, "\n".join(lines) + "\n")
    if not own_columns:  # as text files next to the labels
        write(folder / "Speaker_ids.txt", "\n".join(f"{r[0]}.wav; {r[5]}" for r in MSP_ROWS))
        splits = (f"{r[7].replace('Development', 'Validation')}; {r[0]}.wav" for r in MSP_ROWS)
        write(folder / "Partitions.txt", "\n".join(splits))
    _msp_raters(labels, number)
    write(folder / "Transcripts" / "MSP-PODCAST_0001_0008.txt", "And, you know.\n")
    write(audio / "MSP-PODCAST_9999_0001.wav")  # of Test3, whose labels are not released
    if version == "1.11":  # old labels inside, misspelt and with other numbers
        old = folder / "Previous_releases_information" / "previous_releases_info" / "v1.6"
        write(
            old / "labels_concensus.csv", "FileName,EmoClass,EmoAct,EmoVal,EmoDom\nMSP-PODCAST_0001_0008.wav,S,7,7,7\n"
        )
    return folder


def _msp_raters(labels: Path, number: tuple[int, ...]) -> None:
    name = f"{MSP_ROWS[0][0]}.wav"
    lines = [
        f"{w}; Neutral; Neutral,Other-calm; A:{a:.6f}; V:{v:.6f}; D:{d:.6f};" for w, (a, v, d) in MSP_RATERS.items()
    ]
    if number == (1, 6):
        rows = [f"{name},{w},Neutral,Neutral,{a},{v},{d}" for w, (a, v, d) in MSP_RATERS.items()]
        head = "FileName,Workers,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"
        write(labels / "labels_detailed.csv", "\n".join([head, *rows]))
    elif number == (1, 8):
        quoted = [f'{name},"{line}"' for line in lines]
        write(labels / "labels_detailed.csv", "\n".join(["FileName,EmoDetail", *quoted]))
    elif number >= (1, 11):
        detail = {
            w: {"EmoClass_Major": "Neutral", "EmoVal": v, "EmoAct": a, "EmoDom": d}
            for w, (a, v, d) in MSP_RATERS.items()
        }
        write(labels / "labels_detailed.json", json.dumps({name: detail}))
    else:
        write(labels / "labels.txt", "\n".join([f"{name}; N; A:2.200000; V:4.000000; D:2.600000;", *lines, ""]))


IEMOCAP_EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes0{s}F_impro01_F000\tneu\t[2.5000, 3.5000, 4.5000]
C-E2:\tNeutral;\t()
C-F1:\tNeutral;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-E1:\tval 2; act 4;\t()
A-F1:\tval 3; act 2; dom  1;\t()

[9.0000 - 11.5000]\tSes0{s}F_impro01_M000\txxx\t[1.5000, 4.0000, 3.0000]
A-E3:\tval 1; act 4; dom  3;\t()

[12.0000 - 13.5000]\tSes0{s}F_impro01_M003\tang\t[1.0000, 5.0000, 5.0000]
A-E3:\tval 1; act 5; dom  5;\t()

[14.0000 - 15.0000]\tSes0{s}F_impro01_F009\thap\t[5.0000, 3.0000, 3.0000]
A-E3:\tval 5; act 3; dom  3;\t()
"""


def iemocap(root: Path, sessions: int = 5) -> Path:
    folder = root / "IEMOCAP_full_release"
    for s in range(1, sessions + 1):
        session = folder / f"Session{s}"
        evaluation = session / "dialog" / "EmoEvaluation"
        write(evaluation / f"Ses0{s}F_impro01.txt", IEMOCAP_EVALUATION.replace("{s}", str(s)))
        write(evaluation / f"._Ses0{s}F_impro01.txt", b"\x00\x05\x16\x07\x00")
        write(evaluation / "Attribute" / f"Ses0{s}F_impro01_e1.txt", f"Ses0{s}F_impro01_F000 :act 9; :val 9;")
        transcript = (
            f"Ses0{s}F_impro01_F000 [006.2901-008.2357]: Caf\xe9, please.\nSes0{s}F_impro01_FXX0 [008.3-008.9]: Hm.\n"
        )
        write(session / "dialog" / "transcriptions" / f"Ses0{s}F_impro01.txt", transcript.encode("latin-1"))
        for turn in ("F000", "M000", "M003", "M099"):  # F009 has no audio, M099 no ratings
            write(session / "sentences" / "wav" / f"Ses0{s}F_impro01" / f"Ses0{s}F_impro01_{turn}.wav")
        write(session / "sentences" / "wav" / f"Ses0{s}F_impro01" / f"._Ses0{s}F_impro01_F009.wav")
    return folder


def msp_improv(root: Path, *, calm_is_high: bool = False, name: str = "Evalution.txt", audio: str = "") -> Path:
    """Write a copy in which anger and happiness are active, sadness and neutral calm; the scale may be reversed."""
    folder, blocks = root / "MSP-IMPROV", []
    clips = (
        ("S01A-F01-P-FM01", "A", 4.5), ("S02H-M01-R-FM02", "H", 4.0), ("S03S-F02-S-MF01", "S", 2.0),
        ("S04N-M02-T-FM03", "N", 2.5), ("S05A-F03-P-FM01", "X", 3.0),
    )  # fmt: skip
    for k, (clip, code, arousal) in enumerate(clips):
        a = 6 - arousal if calm_is_high else arousal
        blocks.append(f"UTD-IMPROV-{clip}.avi; {code}; A:{a:.6f}; V:{2 + k / 2:.6f}; D:3.000000 ; N:4.000000;")
        blocks.append(f"P01; Angry; Angry,Frustrated; A:{a + 0.25:.6f}; V:2.000000; D:3.000000; N:4.000000;")
        blocks.append(f"P02; Neutral; ; A:{a - 0.25:.6f}; V:3.000000; D:NaN; N:NaN;")
        blocks.append(f"P01; Angry; Angry; A:{a + 0.75:.6f}; V:4.000000; D:3.000000; N:4.000000;\n")
        session = f"session{int(clip[6:8])}"
        if k < 4 or not audio:
            write(folder / audio / session / clip[:4] / clip[9] / f"MSP-IMPROV-{clip}.wav")
    write(folder / audio / "session1" / "S01A" / "P" / "MSP-IMPROV-S09A-F01-P-FM01.wav")  # without ratings
    write(folder / name, "\n".join(blocks))
    return folder


def crema_d(root: Path) -> Path:
    folder = root / "CREMA-D"
    for stem in (
        "1001_DFA_ANG_XX",
        "1001_IEO_HAP_HI",
        "1002_IEO_NEU_XX",
        "1076_MTI_SAD_XX",
        "1076_MTI_FEA_LO",
        "notes_of_mine",
    ):
        write(folder / "AudioWAV" / f"{stem}.wav", b"RIFF" + b"\0" * 400)
    write(
        folder / "VideoDemographics.csv",
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,Male,x,y\n1002,21,Female,x,y\n',
    )
    return folder


def ravdess(root: Path) -> Path:
    folder = root / "RAVDESS"
    for actor, stem in (
        (1, "03-01-06-01-02-01-01"), (2, "03-01-05-02-01-02-02"), (12, "03-01-08-01-01-01-12"),
        (12, "03-02-03-01-01-01-12"), (1, "01-01-03-01-01-01-01"),
    ):  # fmt: skip
        write(folder / f"Actor_{actor:02d}" / f"{stem}.wav")
    return folder


def emo_db(root: Path, folder: str = "wav") -> Path:
    for stem in ("03a01Fa", "08b10Wc", "16a05Ta", "99a01Fa"):
        write(root / "emodb" / folder / f"{stem}.wav")
    return root / "emodb"


def emobox(root: Path, corpus: str = "emodb") -> Path:
    """Write two folds; audio files are named from EmoBox' own root."""
    stems = {
        "emodb": ("03a02Wb", "08a04Wc", "09a01Fb", "10b09Ta"),
        "iemocap": ("Ses01M_impro01_F000", "Ses01M_impro01_M001", "Ses02F_script01_1_F002", "Ses03F_impro02_M010"),
        "aesdd": ("a1", "a2", "a3", "a4"),
    }[corpus]
    folder = root / "EmoBox" / "data" / corpus
    for fold in (1, 2):
        order = stems if fold == 1 else stems[::-1]
        for part, chosen in (("train", order[:3]), ("test", order[3:])):
            lines = []
            for s, emotion in zip(chosen, ("anger", "boredom", "happy")):  # noqa: B905
                entry = {"key": f"{corpus}-{s}", "dataset": corpus, "wav": f"downloads/{corpus}/wav/{s}.wav"}
                rest = {"type": "raw", "sample_rate": 16000, "length": 2.1, "task": "category", "channel": 1}
                lines.append(json.dumps({**entry, **rest, "emo": emotion}))
            write(folder / f"fold_{fold}" / f"{corpus}_{part}_fold_{fold}.jsonl", "\n".join(lines) + "\n")
    for s in stems:
        write(root / "EmoBox" / "downloads" / corpus / "wav" / f"{s}.wav")
    return folder


def audformat_database(root: Path) -> Path:
    import audformat  # whose import takes a second that other trees do without

    database = audformat.Database("small", license="CC0-1.0", meta={"version": "2.1.0"})
    database.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=7, description="calm to active")
    database.schemes["emotion"] = audformat.Scheme(labels=["glad", "cross"])
    database.schemes["speaker"] = audformat.Scheme("str")
    for part, kind in (("train", "train"), ("dev", "dev"), ("test", "test")):
        database.splits[part] = audformat.Split(kind)
        files = [f"audio/{part}{k}.wav" for k in range(2)]
        for name in files:
            write(root / name)
        table = database[f"emotion.{part}"] = audformat.Table(audformat.filewise_index(files), split_id=part)
        given = {"arousal": [2.0, 5.5], "emotion": ["glad", None], "speaker": [f"{part}a", f"{part}b"]}
        for column, values in given.items():
            table[column] = audformat.Column(scheme_id=column)
            table[column].set(values)
    spans = audformat.segmented_index(["audio/long.wav"] * 2, starts=["0s", "1.5s"], ends=["1.5s", "3s"])
    database["emotion.spans"] = audformat.Table(spans)
    database["emotion.spans"]["arousal"] = audformat.Column(scheme_id="arousal")
    database["emotion.spans"]["arousal"].set([3.0, 4.0])
    write(root / "audio" / "long.wav")
    database.save(str(root), storage_format="csv")
    return root


RECOLA_HEADER = "time;FM1 ;FM2 ;FM3 ;FF1 ;FF2 ;FF3"  # blanks as they are there


def recola(root: Path) -> Path:
    """RECOLA: a participant in each recording; in the first, rater r gives r/10 + t/1000 at t seconds."""
    folder = root / "RECOLA"
    turns = {"P16": ((0.2, 0.6), (0.8, 1.6), (310.0, 312.0)), "P17": ((0.1, 0.7), (1.0, 1.4)), "P19": ((0.6, 1.2),)}
    for number, (name, spans) in enumerate(turns.items()):
        write(folder / "RECOLA-Audio-recordings" / f"{name}.wav")
        lines = "\n".join(f"{start};{end}" for start, end in spans)
        write(folder / "RECOLA-Audio_timings" / f"{name}.csv", f"start;stop\n{lines}\n")
        for target, sign in (("arousal", 1), ("valence", -1)):
            rows = [
                f"{k / 25:.2f};" + ";".join(f"{sign * (r / 10 + k / 25_000 + number / 20):.5f}" for r in range(6))
                for k in range(50)
            ]
            path = folder / "RECOLA-Annotation" / "emotional_behaviour" / target / f"{name}.csv"
            write(path, "\n".join([RECOLA_HEADER, *rows]) + "\n")
    write(folder / "RECOLA-Audio-recordings" / "P99.wav")  # of the test set, whose ratings are not released
    return folder


CONVERSATIONS = {
    "MSP-Conversation_0021": "Train",
    "MSP-Conversation_0047": "Validation",
    "MSP-Conversation_0079": "Test",
}
TRACE_HEAD = "\n".join(("Date: 2019,", "Annotator: x,", "Joystick,", "a,", "b,", "c,", "d,", "e,", "%%%%%%,%%%%%%"))


def msp_conversation(root: Path, *, from_conversation: bool = False) -> Path:
    """MSP-Conversation: two parts of 2 s for each conversation, two raters, times in seconds of the podcast.

    The ratings of rater r in part p are 10 r + 20 p. Turns are timed from their part, or from their conversation.
    """
    folder = root / "MSP-Conversation"
    parts, segments = [], {}
    for name in CONVERSATIONS:
        write(folder / "Audio" / f"{name}.wav")
        for part in (1, 2):
            first = 500.0 + 2 * (part - 1)
            parts.append(f"{name}_{part};{first};{first + 2}")
            shift = 2 * (part - 1) if from_conversation else 0
            for turn, start in enumerate((0.1, 1.2)):
                times = {"Start_Time": shift + start, "End_Time": shift + start + 0.5}
                episode = name.replace("Conversation", "PODCAST")
                segments[f"{episode}_{10 * part + turn:04d}"] = {"Conversation_Part": f"{name}_{part}"} | times
            for target in ("Arousal", "Valence", "Dominance"):
                for rater in (1, 2):
                    third = ",0" if (name[-4:], part, rater) == ("0047", 2, 1) else ""  # as one file of the corpus has
                    rows = [f"{k / 50},{10 * rater + 20 * part}{third}" for k in range(100)]
                    path = folder / "Annotations" / target / f"{name}_{part}_{rater:03d}.csv"
                    write(path, "\n".join([TRACE_HEAD, *rows]) + "\n")
    write(folder / "Time_Labels" / "conversation_parts.txt", "\n".join(parts) + "\n")
    write(folder / "Time_Labels" / "segments.json", json.dumps(segments))
    write(folder / "partitions.txt", "\n".join(f"{name};{split}" for name, split in CONVERSATIONS.items()) + "\n")
    return folder
