"""Small encoder-decoders in float64, and examples for them, that several test modules share."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seqbook.data.batches import END, START, Encoded
from seqbook.models.seq2seq import Memory, RecurrentSeq2Seq, Seq2Seq, TransformerSeq2Seq

SYMBOLS = {"source_symbols": 8, "target_symbols": 7}
RECURRENT = {
    f"{network}{' with attention' if attention else ''}, layers: {layers}": {
        "network": network,
        "attention": attention,
        "num_layers": layers,
    }
    for network in ("RNN", "LSTM", "GRU")
    for attention in (False, True)
    for layers in (1, 2)
}
TRANSFORMERS = {f"Transformer {norm}": {"norm": norm} for norm in ("pre", "post")}
KINDS = RECURRENT | TRANSFORMERS


class Tree(Seq2Seq):
    """Every beginning has a random distribution of its own over what follows.

    Untrained networks say much the same after every beginning, and end soon, so that a search
    has nothing to find. Here ends grow likely after some symbols only.
    """

    def __init__(self, symbols: int, scale: float, generator: torch.Generator):
        super().__init__()
        table = scale * torch.randn(9973, symbols, generator=generator)
        self.register_buffer("table", table)

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        mask = torch.arange(source.shape[1]) < lengths[:, None]
        primes = torch.tensor([2, 3, 5, 7, 11, 13, 17, 19])[: source.shape[1]]
        code = (source * mask * primes).sum(1)
        return Memory(self.table[source], mask[:, None], (code[None, :, None],))

    def decode(self, target: Tensor, memory: Memory) -> Tensor:
        state, logits = self.start(memory), []
        for symbol in target.T:
            following, state = self.step(symbol, state)
            logits.append(following)
        return torch.stack(logits, 1)

    def start(self, memory: Memory) -> "TreeState":
        return TreeState(memory.final[0][0, :, 0], 0)

    def step(self, symbol: Tensor, state: "TreeState") -> tuple[Tensor, "TreeState"]:
        code = (31 * state.code + symbol) % len(self.table)
        logits = self.table[code].clone()
        logits[:, END] += 2 * (state.position - 3)
        return logits, TreeState(code, state.position + 1)


class TreeState(NamedTuple):
    code: Tensor
    position: int

    def index_select(self, rows: Tensor) -> "TreeState":
        return TreeState(self.code[rows], self.position)


def make(kind: str, *, seed: int = 0, scale: float = 1.0, **options):
    """Make a model with random weights, each times ``scale``."""
    options = {**SYMBOLS, **KINDS.get(kind, {}), **options}
    options["generator"] = torch.Generator().manual_seed(seed)
    if kind == "tree":
        return Tree(options["target_symbols"], scale, options["generator"]).double()
    if kind in TRANSFORMERS:
        model = TransformerSeq2Seq(d_model=4, heads=2, d_ff=5, **options)
    else:
        model = RecurrentSeq2Seq(embedding_size=5, hidden_size=6, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            # Biases and norms start alike; what they do can be seen only once they differ.
            noise = torch.empty(parameter.shape).normal_(0, 0.2, generator=options["generator"])
            noise = noise.to(parameter.device)
            parameter.add_(noise if parameter.dim() == 1 else 0).mul_(scale)
    return model.double()


def padded(sequences: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    tensors = [torch.tensor(sequence) for sequence in sequences]
    return pad_sequence(tensors, batch_first=True), torch.tensor([len(s) for s in sequences])


def make_examples(lengths: list[tuple[int, int]], *, seed: int = 0) -> Encoded:
    """Make random examples with these numbers of source and target symbols."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int, symbols: int) -> list[int]:
        return torch.randint(3, symbols, (count,), generator=generator).tolist()

    sources = [[*draw(n, SYMBOLS["source_symbols"]), END] for n, _ in lengths]
    targets = [[START, *draw(m, SYMBOLS["target_symbols"]), END] for _, m in lengths]
    return Encoded(*padded(sources), *padded(targets))


def alone(examples: Encoded) -> list[Encoded]:
    """Each example as a batch of one, without padding."""
    return [examples.rows(torch.tensor([i])) for i in range(len(examples.source))]
