"""Which data a workload trains on, as an experiment writes it: the option `data`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictFloat, StrictInt, StrictStr

from bcrit.search_spaces.options import Frozen

Count = Annotated[StrictInt, Field(ge=1)]
Share = Annotated[StrictFloat, Field(gt=0, lt=1)]


class DataChoice(Frozen):
    """Where data come from, which part of them trains and which validates.

    A `source` that exists, seen from the working directory, is a file or folder; any other is a name on the hub of
    Hugging Face `datasets`. Nothing is ever validated on a test split, unless `validation` names it.

    Attributes:
        source: path or hub name.
        train: the split to train on.
        validation: how many examples are held out of the training split, or which share of it; or the name of another
            split. None = the split `validation` if there is one, else a share that the kind of data chooses.
        examples: use only this many of the training split, the first ones; None = all.
        configuration: of a data set on the hub that has several.
        revision: of a data set on the hub: branch, tag or commit. None = the one found when it is first read.
        streaming: read a data set of the hub without first saving it as it is there. For what does not fit on the
            disk twice, or, with `examples`, even once.
        columns: names of the columns, where they cannot be guessed.
        cache: folder for the converted data; None = `bcrit` in `$XDG_CACHE_HOME` or `~/.cache`.
    """

    source: StrictStr
    train: StrictStr = "train"
    validation: Count | Share | StrictStr | None = None
    examples: Count | None = None
    configuration: StrictStr | None = None
    revision: StrictStr | None = None
    streaming: bool = False
    columns: dict[str, str] = {}
    cache: StrictStr | None = None


class ImageChoice(DataChoice):
    """Images and their classes.

    Attributes:
        image_size: scale the shorter side of every image to this many pixels and cut out the middle square; None =
            images as they are, which must then all have one size.
        channels: 1 (grey) or 3 (colour); None = as the first image has.
    """

    image_size: Count | None = None
    channels: Literal[1, 3] | None = None


class TextChoice(DataChoice):
    """Text, as one long sequence of tokens.

    Attributes:
        tokenizer: `characters` (those that occur in the text), `bytes` (of its UTF-8 form), or the path of a JSON file
            of the library `tokenizers`.
    """

    tokenizer: StrictStr = "characters"
