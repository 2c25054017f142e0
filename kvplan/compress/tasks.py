"""What is measured of a compressed model: names that a shell can ask for without loading the model's library."""

#: what is measured -> what its score is
TASKS = {
    "needle": "share of facts found",
    "multihop": "share of three-hop chains found",
    "agreement": "share of tokens as the uncompressed model's",
    "divergence": "KL divergence from the uncompressed model [nat]",
    "perplexity": "perplexity",
    "copy": "overlap with the uncompressed model's own text",
    "speculation": "share of drafted tokens accepted: drafts on the compressed cache, verified on the whole one",
}
