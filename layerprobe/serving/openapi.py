"""The OpenAPI document of the JSON interface, version 3.1."""

from __future__ import annotations

from typing import Any

from layerprobe.probe.predictors.predictor import Predictor
from layerprobe.probe.version import layerprobe_version
from layerprobe.serving.rating import HOP_SECONDS, MOST_PEAKS, MOST_WINDOWS, USUAL_WINDOWS, WINDOW_SECONDS
from layerprobe.serving.settings import ServingSettings

Schema = dict[str, Any]
NUMBER: Schema = {"type": "number"}
TEXT: Schema = {"type": "string"}
BOUND: Schema = {"type": ["number", "null"]}
REFUSALS = {
    "400": "The query, or the body as it was sent, can't be used.",
    "401": "The token is missing or wrong, where the server has one.",
    "403": "Another site's page sent the request.",
    "408": "The body did not arrive in time.",
    "413": "The recording is larger or longer than the server's limits.",
    "415": "The content type is not that of a recording.",
    "421": "The server does not answer under the name in the header Host.",
    "422": "The recording can't be decoded or rated: the message states why.",
    "500": "The server failed, and printed why where it runs.",
    "503": "The server is busy; the header Retry-After states when to try again.",
    "504": "Rating took longer than the server's limit.",
}


def openapi_document(predictor: Predictor, settings: ServingSettings) -> Schema:
    """Return the document of a predictor's interface, with the limits of this server."""
    secured: list[Schema] = [{"token": []}] if settings.secret else []
    paths = {
        "/api/ratings": {"post": _ratings(settings)},
        "/api/predictor": {
            "get": _get("What the predictor is, and the limits of this server.", "Predictor", "401", "421")
        },
        "/health": {"get": _get("Whether the server answers.", "Health", "421") | {"security": []}},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Ratings of speech: {', '.join(predictor.targets)}",
            "version": layerprobe_version(),
            "description": "Rates recordings of speech with a predictor of layerprobe. Recordings are decoded in "
            "memory and never written to a disk.",
        },
        "paths": paths,
        "security": secured,
        "components": {
            "schemas": _schemas(predictor),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _get(summary: str, schema: str, *refusals: str) -> Schema:
    answers = {"200": _answer("The answer.", schema)}
    return {"summary": summary, "responses": answers | {s: _answer(REFUSALS[s], "Error") for s in refusals}}


def _ratings(settings: ServingSettings) -> Schema:
    query = [
        ("window", {**NUMBER, "minimum": 0, "maximum": 3600},
         f"Seconds of each rating of the trace; {WINDOW_SECONDS:g} by default, 0 for no trace."),
        ("hop", {**NUMBER, "minimum": 0.05, "maximum": 3600},
         f"Seconds from one rating of the trace to the next; by default {HOP_SECONDS:g}, or more where that would make "
         f"over {USUAL_WINDOWS} of them. {MOST_WINDOWS} ratings are the most."),
        ("peaks", {"type": "integer", "minimum": 0, "maximum": MOST_PEAKS},
         "Number of peaks of the waveform to return, for drawing it; 0 by default."),
    ]  # fmt: skip
    audio: Schema = {"schema": {}}
    return {
        "summary": "Rate a recording.",
        "description": f"The body is an audio file as it is, at most {settings.max_mb:g} MB and "
        f"{settings.max_seconds:g} s long.",
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": schema, "description": text}
            for name, schema, text in query
        ],
        "requestBody": {
            "required": True,
            "content": {"audio/*": audio, "video/*": audio, "application/octet-stream": audio},
        },
        "responses": {"200": _answer("The ratings.", "Ratings")}
        | {status: _answer(text, "Error") for status, text in REFUSALS.items()},
    }


def _answer(text: str, schema: str) -> Schema:
    return {
        "description": text,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _schemas(predictor: Predictor) -> dict[str, Schema]:
    targets = list(predictor.targets)
    rating = _object(
        {
            "value": {**NUMBER, "description": "In the unit of the target's scale."},
            "low": {**BOUND, "description": "Lower end of the interval; null where none was calibrated."},
            "high": {**BOUND, "description": "Upper end of the interval; null where none was calibrated."},
        }
    )
    scale = _object({"lowest": NUMBER, "highest": NUMBER})
    layers = {"type": "array", "items": TEXT}
    one: Schema = {"$ref": "#/components/schemas/Rating"}
    window = _object(
        {
            "start": {**NUMBER, "description": "Seconds."},
            "end": {**NUMBER, "description": "Seconds."},
            "ratings": _object({target: {"anyOf": [one, {"type": "null"}]} for target in targets}),
        }
    )
    trace = _object({"window": NUMBER, "hop": NUMBER, "windows": {"type": "array", "items": window}})
    ratings = _object(
        {
            "duration": {**NUMBER, "description": "Seconds that were rated."},
            "ratings": _object(dict.fromkeys(targets, one)),
            "scales": _object(dict.fromkeys(targets, scale)),
            "level": {**NUMBER, "description": "Of the intervals: the fraction of ratings that they are to hold."},
            "layers": _object(dict.fromkeys(targets, layers)),
            "trace": {
                "anyOf": [trace, {"type": "null"}],
                "description": "Ratings of windows; null where one is silent, or too short for a frame of the encoder.",
            },
            "peaks": {"anyOf": [{"type": "array", "items": NUMBER}, {"type": "null"}]},
            "remarks": {"type": "array", "items": TEXT, "description": "What may be wrong with the recording."},
            "seconds": {**NUMBER, "description": "For decoding the recording and rating it, without the trace."},
            "real_time_factor": {**NUMBER, "description": "seconds / duration."},
            "predictor": {**TEXT, "description": "Fingerprint of the predictor."},
        }
    )
    return {
        "Rating": rating,
        "Ratings": ratings,
        "Predictor": _predictor_schema(scale, layers),
        "Health": _object({"status": {"const": "ok"}}),
        "Error": _object(
            {
                "error": _object(
                    {
                        "code": {**TEXT, "description": "layerprobe explain CODE states the cause and what to do."},
                        "message": {**TEXT, "description": "A sentence."},
                    }
                )
            }
        ),
    }


def _predictor_schema(scale: Schema, layers: Schema) -> Schema:
    encoder = {"name": TEXT, "revision": TEXT, "architecture": TEXT}
    blocks: Schema = {"type": "integer"}
    trained_on = {"corpus": TEXT, "speakers": blocks, "utterances": blocks}
    limits = {"megabytes": NUMBER, "seconds": NUMBER, "at_once": blocks, "waiting": blocks, "timeout": NUMBER}
    bound = {**BOUND, "description": "Of the 95 % interval over these; null with too few of them."}
    score = _object({"metric": TEXT, "estimate": NUMBER, "ci_low": bound, "ci_high": bound})
    scored = {
        "anyOf": [score, {"type": "null"}],
        "description": "On unseen speakers of the corpus, or what interval_unit names.",
    }
    target = _object({"name": TEXT, **scale["properties"], "layers": layers, "score": scored})
    return _object(
        {
            "predictor": TEXT,
            "targets": {"type": "array", "items": target},
            "level": {**NUMBER, "description": "Of the intervals: the fraction of ratings that they are to hold."},
            "interval_unit": {
                **TEXT,
                "description": "Of which intervals assume a new one: speaker, utterance (the speaker may be one of the "
                "corpus), or a column such as session.",
            },
            "encoder": _object({**encoder, "blocks": blocks, "blocks_of_whole": blocks}),
            "trained_on": _object(trained_on),
            "sampling_rate": {**NUMBER, "description": "Hz."},
            "limits": _object(limits),
        }
    )


def _object(properties: dict[str, Schema]) -> Schema:
    """Return the schema of an object that has all of these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
