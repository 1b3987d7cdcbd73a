"""What the classes of public data sets are called, in the order of released networks' outputs."""

from __future__ import annotations

from collections.abc import Mapping

_YTVIS19 = (
    "person giant_panda lizard parrot skateboard sedan ape dog snake monkey hand rabbit duck cat"
    " cow fish train horse turtle bear motorbike giraffe leopard fox deer owl surfboard airplane"
    " truck zebra tiger elephant snowboard boat shark mouse frog eagle earless_seal tennis_racket"
)
_YTVIS21 = (
    "airplane bear bird boat car cat cow deer dog duck earless_seal elephant fish flying_disc fox"
    " frog giant_panda giraffe horse leopard lizard monkey motorbike mouse parrot person rabbit"
    " shark skateboard snake snowboard squirrel surfboard tennis_racket tiger train truck turtle"
    " whale zebra"
)
# `Vehical` is how its annotations spell it, and results are matched with them by name.
_OVIS = (
    "Person Bird Cat Dog Horse Sheep Cow Elephant Bear Zebra Giraffe Poultry Giant_panda Lizard"
    " Parrot Monkey Rabbit Tiger Fish Turtle Bicycle Motorcycle Airplane Boat Vehical"
)
_COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,"
    "stop sign,parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,"
    "backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,"
    "baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,"
    "bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,"
    "oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
)
CLASS_NAMES: Mapping[str, tuple[str, ...]] = {
    "ytvis19": tuple(_YTVIS19.split()),
    "ytvis21": tuple(_YTVIS21.split()),
    "ovis": tuple(_OVIS.split()),
    "coco": tuple(_COCO.split(",")),
    "uvo": ("object",),
    "davis": ("instance",),
}


def names_by_number(number: int, data_sets: Mapping[int, str]) -> tuple[str, ...]:
    """Names of so many classes: of the data set that has as many, else class_1 and so on."""
    if number in data_sets:
        return CLASS_NAMES[data_sets[number]]
    return tuple(f"class_{label}" for label in range(1, number + 1))
