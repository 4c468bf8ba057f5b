"""Times softmax and top-K in PyTorch on a GPU, for the bench.

A conversation over the standard streams, started by torch.ts. The first line out says what was found. Each request is a
line of JSON, then the bytes of its template; each answer is a line of JSON.

Calls are replayed from a CUDA graph that rotates through the input sets, so that no call finds its logits in a cache and
the time is that of the device alone.
"""

import json
import os
import sys

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # whatever a library prints must not end up between the answers


def answer(**fields):
    answers.write(json.dumps(fields) + "\n")
    answers.flush()


try:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no CUDA device.")
    device_name = torch.cuda.get_device_name()
except Exception as error:
    answer(error=str(error) or type(error).__name__)
    sys.exit()

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
LEAST_GRAPH_MICROSECONDS = 1000  # a replay this long makes the events' own cost vanish
WARM_UPS = 2
LEAST_REPEATS = 3


def softmax_then_topk(logits, k):
    """The way it is written down: the whole softmax, then its K best."""
    return torch.softmax(logits, -1, dtype=torch.float32).topk(k)


def topk_then_normalize(logits, k):
    """The K best logits, normalized by the log of the whole row's sum: no softmax in memory."""
    best, indices = logits.topk(k)
    return torch.exp(best.float() - torch.logsumexp(logits.float(), -1, keepdim=True)), indices


def time_calls(call, inputs, repeats, budget):
    """Microseconds a call, a value a replay: so many, or as many as the budget of milliseconds allows."""
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()  # the inputs were made on another stream
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.stream(stream):
        call(inputs[0])  # chooses its kernels, which a capture may not
        begin.record()
        for logits in inputs[:8]:
            call(logits)
        end.record()
        end.synchronize()
        one = begin.elapsed_time(end) * 1000 / len(inputs[:8])
        rounds = max(1, round(LEAST_GRAPH_MICROSECONDS / (one * len(inputs))))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for _ in range(rounds):
                for logits in inputs:
                    call(logits)
        affordable = int(budget * 1000 / (one * rounds * len(inputs)))
        microseconds = []
        for repeat in range(WARM_UPS + max(LEAST_REPEATS, min(repeats, affordable))):
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            if repeat >= WARM_UPS:
                microseconds.append(begin.elapsed_time(end) * 1000 / (rounds * len(inputs)))
    return microseconds


def measure(request, template):
    rows, vocab, k = request["rows"], request["vocab"], request["k"]
    template = torch.frombuffer(template, dtype=DTYPES[request["dtype"]]).view(-1, vocab).cuda()
    turn = torch.arange(rows, device="cuda")
    inputs = [template[(turn + shift) % len(template)] for shift in range(request["sets"])]
    way = {"softmax": softmax_then_topk, "topk": topk_then_normalize}[request["way"]]
    if request["compile"]:
        torch.compiler.reset()  # what is left of another shape would make the next one general, and slow
        way = torch.compile(way, dynamic=False)
    probs, indices = way(inputs[0], k)
    compared = slice(0, request["answers"])
    result = {"probs": probs[compared].flatten().tolist(), "indices": indices[compared].flatten().tolist()}
    times = time_calls(lambda logits: way(logits, k), inputs, request["repeats"], request["budget"])
    return {"microseconds": times, **result}


answer(version=torch.__version__, device=device_name)
while line := sys.stdin.buffer.readline():
    request = json.loads(line)
    template = bytearray(sys.stdin.buffer.read(request["bytes"]))
    try:
        answer(**measure(request, template))
    except Exception as error:
        answer(error=str(error).split("\n")[0] or type(error).__name__)
    torch.cuda.empty_cache()
