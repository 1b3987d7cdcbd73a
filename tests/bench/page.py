"""The page of the benchmarks: what each step's figures look like in one short table."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

Row = tuple[str, str]  # what was measured, and the figure


def page(entries: dict[str, Any]) -> str:
    """Markdown; `entries` as benchmarks.json holds them, by step."""
    entries = {name: entries[name] for name in ROWS if name in entries}
    machines = list(dict.fromkeys(entry["machine"] for entry in entries.values()))
    letters = dict(zip(machines, string.ascii_uppercase, strict=False))
    lines = [
        "# Benchmarks",
        "",
        "`make bench` writes this page; `python -m tests.bench.run STEP` measures one step again."
        " Each step is a module of `tests/bench/`, which says what it does. Figures in"
        " `benchmarks.json`. Ratios: median of interleaved pairs, with the range.",
        "",
        *(f"Machine {letters[machine]}: {machine}." for machine in machines),
        "",
        "| what | figure | when |",
        "|---|---|---|",
    ]
    for name, entry in entries.items():
        when = f"{entry['date']}, {letters[entry['machine']]}"
        lines += [f"| {what} | {figure} | {when} |" for what, figure in ROWS[name](entry["found"])]
    return "\n".join(lines) + "\n"


def _plan(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"plan over {found['videos']:,} videos, half of them committed: tables read, subtracted,"
        " cut, packed",
        f"{found['seconds_to_plan']} s for {found['units']:,} units",
    )
    yield (
        f"… to the first wave of {found['first_wave_units']:,} units as objects",
        f"{found['seconds_to_first_wave']} s, peak {found['peak_gb']} GB",
    )


def _memory(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"one video of {found['frames']:,} frames with {found['instances']} instances each,"
        " all processes (PSS)",
        f"peak {found['peak_mb']} MB, {found['added_mb']} MB above a short video; bound"
        f" {found['bound_mb']} MB",
    )
    yield "… its time", f"{found['seconds']} s in all, {found['link_seconds']} s of it linking"


def _decode(found: list[dict[str, Any]]) -> Iterator[Row]:
    for row in found:
        yield (
            f"decoder child ÷ in-process, {row['clip']}",
            f"{row['child_fps']} ÷ {row['in_process_fps']} frames/s = {_ratio(row)}",
        )


def _pipeline(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"inline predict stage ÷ decode alone, {found['frames']} frames of 720p and 540p,"
        " formula oracle with 10 instances",
        f"{found['label_fps']} ÷ {found['decode_fps']} frames/s = {_ratio(found)}",
    )


def _ray_pairs(found: dict[str, Any]) -> Iterator[Row]:
    four, zero, network = found["wait_4_ms"], found["wait_0_ms"], found["network"]
    one, two = four["ray_1"], four["ray_2"]
    base = f"{four['inline_fps']} frames/s"
    yield (
        f"Ray ÷ inline while all workers are busy, model that waits 4 ms a frame, 360p, units of"
        f" {found['unit_frames']} frames",
        f"{one['fps']} frames/s ÷ {base} = {_ratio(one)}",
    )
    yield "… 2 actors ÷ twice inline", f"{two['fps']} frames/s ÷ twice {base} = {_ratio(two)}"
    yield (
        "… model that waits 0 ms",
        f"{zero['ray_1']['fps']} ÷ {zero['inline_fps']} frames/s = {_ratio(zero['ray_1'])}",
    )
    yield (
        "… small real network: CPU time of all processes per frame",
        f"{network['ray_cpu_ms']} ÷ {network['inline_cpu_ms']} ms = {_ratio(network)}",
    )
    yield (
        "… before that, with 2 actors",
        f"{two['session_seconds']} s for Ray to start, {two['first_unit_seconds']} s from the plan"
        f" to the first unit, {two['ramp_seconds']} s until both were at work",
    )


def _ray_rivals(found: dict[str, Any]) -> Iterator[Row]:
    ours, plain, tuned = (found[name] for name in ("ours", "plain", "tuned"))
    for key, where in (("fps", "from call to return"), ("middle_fps", "middle 60 % of the frames")):
        yield (
            f"reelmask ÷ plain Ray Data, {where}; {found['videos']} videos of 720p,"
            f" {found['accelerators']} accelerators that take 4 ms a frame",
            f"{ours[key]} ÷ {plain[key]} frames/s = {_ratio(found['over_plain'][key])}",
        )
        yield (
            "… ÷ tuned Ray Data",
            f"{ours[key]} ÷ {tuned[key]} frames/s = {_ratio(found['over_tuned'][key])}",
        )


def _ray_receipts(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"{found['receipts']:,} receipts through the driver",
        f"{found['receipts_per_second']} a second; {found['start_mb']} MB at the start,"
        f" {found['max_mb']} MB at most, {found['bytes_per_receipt']} bytes more per receipt",
    )


def _ray_scaling(found: list[dict[str, Any]]) -> Iterator[Row]:
    for row in found:
        yield (
            f"{row['workers']} waiting worker{'s' if row['workers'] > 1 else ''}, units of"
            f" {row['unit_seconds']} s",
            f"{row['fps']} frames/s, efficiency {row['efficiency']}; driver {row['driver_cpu']}"
            f" cores, {row['driver_mb']} MB; all {row['processes']} processes {row['all_cpu']}"
            f" cores, {row['all_pss_mb']} MB",
        )


def _synth(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"`reelmask synth`, {found['videos']} clips of {found['frames']} frames, 360 x 640,"
        f" `{found['preset']}`, {found['workers']} processes",
        f"{found['seconds']} s",
    )


def _motion(found: list[dict[str, Any]]) -> Iterator[Row]:
    for row in found:
        low, high = row["fps_range"]
        yield (
            f"`flow_match` with its motion front end, {row['clip']}, {row['masks']} masks a frame,"
            " decoding left out",
            f"{row['fps_per_core']} ({low} to {high}) frames/s a core",
        )


def _link_flow_match(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"`flow_match` linker, 720p, {found['tracks']} tracks, {found['instances']} instances a"
        " frame, one core ÷ plain loops",
        f"{found['fps']} ÷ {found['reference_fps']} frames/s = {found['ratio']}",
    )


def _link_idol_minvis(found: list[dict[str, Any]]) -> Iterator[Row]:
    for row in found:
        low, high = row["fps_range"]
        yield (
            f"`{row['linker']}` linker, {row['instances']} instances a frame, one core ÷ plain"
            " loops",
            f"{row['fps']} ({low} to {high}) ÷ {row['reference_fps']} frames/s = {row['ratio']}",
        )


def _link_sequences(found: dict[str, Any]) -> Iterator[Row]:
    for name in ("sequence_nms", "sequence_nms_large"):
        row = found[name]
        yield (
            f"sequence NMS, {row['sequences']} sequences of {row['frames']} frames, 720p, masks"
            f" {row['sides_px'][0]} to {row['sides_px'][1]} px wide, one core; plain loops ÷ ours",
            f"{row['reference_seconds']} ÷ {row['seconds']} s = {row['ratio']}",
        )
    row = found["instance_flow"]
    yield (
        f"`instance_flow` linker, {row['instances']} instances a frame, one core ÷ plain loops",
        f"{row['fps']} ÷ {row['reference_fps']} frames/s = {row['ratio']}",
    )
    row = found["fusion"]
    yield (
        f"fusion of {row['members']} members with {row['tracks_per_member']} tracks each, 720p",
        f"{row['ms_per_fused_mask']} ms a fused mask",
    )


def _evaluate(found: list[dict[str, Any]]) -> Iterator[Row]:
    for row in found:
        yield (
            f"YouTube-VIS metrics of {row['videos']} videos ({row['objects']} objects,"
            f" {row['lines']} lines and {row['labels']} categories in each; a file of"
            f" {row['json_mb']} MB); plain loops ÷ ours",
            f"{row['reference_seconds']} ÷ {row['seconds']} s = {row['ratio']}",
        )


def _train(found: dict[str, Any]) -> Iterator[Row]:
    height, width = found["size"]
    yield (
        f"training steps of the tests' tiny Mask R-CNN on {found['cores']} cores, {height} x"
        f" {width}, batch of {found['batch_size']}, frames in the cache: share of the time that"
        " waits for data",
        f"{found['data_wait_share']:.1%}, {found['images_per_second']} images/s",
    )


def _seq_prop(found: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for name, row in found.items():
        yield (
            f"`propose_reduce` from pictures to masks, K = 5, {name}, {row['frames']} frames, one"
            " core: a plain loop (features anew, memory read by the formula) ÷ ours",
            f"{row['naive_seconds']} ÷ {row['seconds']} s = {row['ratio_to_naive']}",
        )
        yield (
            "… the same loop with our layers ÷ ours",
            f"{row['features_anew_seconds']} ÷ {row['seconds']} s ="
            f" {row['ratio_to_features_anew']}",
        )
        yield (
            "… the same loop with our layers and features kept ÷ ours",
            f"{row['features_kept_seconds']} ÷ {row['seconds']} s ="
            f" {row['ratio_to_features_kept']}",
        )


def _idol_forward(found: dict[str, Any]) -> Iterator[Row]:
    height, width = found["input"]
    yield (
        f"`idol` with ResNet-50 at {height} x {width}, {found['masks']} masks, full precision, one"
        " core: network alone ÷ predictor, per frame",
        f"{found['seconds_alone']} ÷ {found['seconds_whole']} s = {_ratio(found)}",
    )
    stages = found["stages_ms"]
    yield (
        "… its stages",
        ", ".join(f"{name} {milliseconds} ms" for name, milliseconds in stages.items()),
    )


def _long_video(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"`propose_reduce` on one video of {found['frames']:,} frames in {found['windows']}"
        f" windows that share {found['shared']}, all processes (PSS)",
        f"peak {found['peak_mb']} MB, {found['above_short_mb']} MB above a video of one and a half"
        f" windows; bound {found['bound_mb']} MB; {found['seconds']} s",
    )
    yield (
        f"… {found['objects_at_seams']} objects that show on both sides of a seam and in it",
        f"{found['same_id']} keep their id, {found['switched']} change it,"
        f" {found['without_a_track']} have no track on one side or on both",
    )
    yield (
        f"… {found['objects_within']} objects over as many frames in the middle of windows",
        f"{found['same_id_within']} keep their id, {found['switched_within']} change it",
    )


def _device_memory(found: dict[str, Any]) -> Iterator[Row]:
    yield (
        f"`propose_reduce` on that video: what tensors take of a device ({found['device']})",
        f"at most {found['first_half_mb']} MB in the first half of its windows,"
        f" {found['second_half_mb']} MB in the second; {found['after_first_mb']} MB after the"
        f" first window, {found['after_last_mb']} MB after the last",
    )


def _ratio(row: dict[str, Any]) -> str:
    low, high = row["ratio_range"]
    return f"{row['ratio']} ({low} to {high})"


ROWS = {
    "plan": _plan,
    "memory": _memory,
    "decode": _decode,
    "pipeline": _pipeline,
    "ray_pairs": _ray_pairs,
    "ray_rivals": _ray_rivals,
    "ray_receipts": _ray_receipts,
    "ray_scaling": _ray_scaling,
    "synth": _synth,
    "motion": _motion,
    "link_flow_match": _link_flow_match,
    "link_idol_minvis": _link_idol_minvis,
    "link_sequences": _link_sequences,
    "evaluate": _evaluate,
    "train": _train,
    "seq_prop": _seq_prop,
    "idol_forward": _idol_forward,
    "long_video": _long_video,
    "device_memory": _device_memory,
}
