"""Names of config.json fields that change no cache, of decoders of any architecture: data, read by `assumed`.

Collected from the configuration classes of transformers and the catalogued files that are plain decoders. A field that
is in none of these lists may mean anything, so a file of an unknown architecture that states one is not answered.
"""

import re

#: what a file says of itself, of its training, and of how it is loaded
ABOUT = """
    _attn_implementation _commit_hash _flash_attn_2_enabled _name_or_path _remove_final_layer_norm architectures
    attn_implementation auto_map bf16 do_rms_norm finetuning_task flash_attention flash_attn fp16 fp32
    fp32_residual_connection fused_kernels grad_checkpointing gradient_checkpointing id2label is_decoder
    is_encoder_decoder label2id layernorm_compile license model_name model_type name parallel_attn problem_type
    pruned_heads safetensors tensor_parallel_size tf_legacy_loss torchscript transformers_version unsloth_fixed
    training_seqlen
    unsloth_version use_bfloat16 use_cache use_flash_attention use_flash_attn use_flash_attn_2 use_fused_rms_norm
    use_fused_swiglu vocab_file
"""
#: defaults of generation that older files hold
GENERATION = """
    bad_words_ids begin_suppress_tokens decoder_start_token_id diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
    length_penalty max_length max_new_tokens min_length min_new_tokens no_repeat_ngram_size num_beam_groups
    num_beams num_return_sequences output_attentions output_hidden_states output_scores prefix remove_invalid_values
    repetition_penalty return_dict return_dict_in_generate suppress_tokens task_specific_params temperature
    tokenizer_class top_k top_p typical_p
"""
#: what weights and activations are like, but for their number
SHAPES = """
    activation_function add_bias_linear add_qkv_bias afn alibi alibi_bias_max apply_query_key_layer_scaling
    apply_residual_connection_post_layernorm attention_multiplier attention_probs_dropout_prob attention_scale
    attention_softmax_in_fp32 attention_value_scale attn_logit_softcap attn_logit_softcapping attn_qkv_bias bias
    bias_dropout_fusion chunk_size_feed_forward clip_qkv dense_attention_bias dim_model_base embedding_scale
    embedding_size final_logit_softcap final_logit_softcapping final_logits_softcapping hidden_act hidden_activation
    hidden_bias image_size input_mult interleaved_rope layer_norm_elementwise_affine layer_rope_theta
    layernorm_embedding lm_head_bias lm_head_multiplier logit_scale logits_scale logits_scaling mlp_bias
    mlp_layer_types mlp_only_layers mup_base_width mup_denominator mup_scale_factor n_ctx no_rope_layer_interval
    no_rope_layers nope_layer_interval norm_after norm_before_gate norm_topk_prob norm_type normalization_type
    num_channels original_max_position_embeddings output_embedding_size output_mult output_multiplier_scale
    padded_vocab_size parallel_residual partial_rotary_factor patch_size position_embedding_type
    position_encoding_type post_layer_norm post_norm prefix_lm projector_bias projector_hidden_act qk_layernorm
    qk_norm qk_norm_type qkv_bias query_pre_attn_scalar reorder_and_upcast_attn rescale_every residual_post_norm
    residual_scale rmsnorm rotary rotary_base rotary_dim rotary_emb_base rotary_emb_fraction rotary_pct rotary_percent
    rotary_value sandwich_norm scale_attn_by_inverse_layer_idx scale_attn_weights scale_depth scale_emb
    scale_embedding slow_but_exact softmax_scale swiglu_alpha swiglu_limit type_vocab_size use_bias use_dynamic_ntk
    use_learned_position_embeddings use_logn_attn use_mup use_parallel_residual use_post_norm use_qk_norm use_qkv_bias
    use_rmsnorm use_rope use_rotary_position_embedding v_norm vocabulary_map word_embed_proj_dim
"""
#: experts, beside what begins with `moe` or `router`
EXPERTS = """
    aux_loss_alpha aux_loss_coef balance_loss_coef decoder_sparse_step enable_moe_fp32_combine ep_size
    first_k_dense_replace input_jitter_noise limited_topk n_group n_routed_experts n_shared_experts num_expert_group
    num_experts num_experts_per_tok num_local_experts num_shared_expert num_shared_experts routed_expert_hidden_size
    output_router_logits routed_scaling_factor score_function scoring_func seq_aux shared_expert_intermediate_size
    shared_intermediate_size topk_group topk_method use_routing_bias
"""
#: layers that stand behind the decoder, and parts beside it
BESIDE = """
    compression_config ep_quant kv_cache_scheme max_window_layers modules_to_not_convert num_mtp_layers
    num_mtp_modules num_nextn_predict_layers summary_activation summary_first_dropout summary_proj_to_labels
    summary_type summary_use_proj use_mm_proj use_mtp use_sliding_window
"""
NAMES = frozenset(" ".join((ABOUT, GENERATION, SHAPES, EXPERTS, BESIDE)).split())
#: beginnings of names of experts, of drafting layers, of formats and of parts beside the decoder
_BEGINNINGS = re.compile(
    r"((moe|router|experts?|mtp|tie|quant|quantization|vision|audio|image|video|tokenizer|pretraining|gradient|mm)_.*|"
    r"moe|quantization|share_(input_output_)?embeddings?)"
)
#: kinds of names by what they end with
_ENDINGS = re.compile(
    r"(.*_)?(token|tok)_(id|ids|index|indices)|(.*_)?(dropout|pdrop|layerdrop)(_prob|_rate|_p)?|"
    r"(attn|attention|hidden|embd|embedding|resid|residual|ffn)_drop|"
    r"(.*_)?(eps|epsilon|dtype|act|act_fn|activation|activation_fn|bias|norm)|"
    r"(embedding|residual|attention|logits?|lm_head|mlp|output)_multiplier|"
    r"(.*_)?init(ializer)?(_(range|std|method|factor|scale|gain|cutoff_factor|device|fn))?|"
    r"(.*_)?(aux|z|balance|router|lm)_loss(_.*)?|(.*_)?(layer_?norm|rms_?norm)(_.*)?|"
    r"rope_(theta|scaling|parameters|type|ratio|base|pct|percent|interleaved?|traditional|freq_base)|"
    r"rope_scaling_(factor|type)"
)
#: words that make such a name doubtful all the same: a bias of attention sinks, the dtype of a cache
_DOUBTFUL = re.compile(
    r"kv|cache|sink|window|swa|sliding|cross|latent|lora|sparse|linear|state|recurr|chunk|compress|index_|conv"
)


def harmless(name: str) -> bool:
    """Whether a field of this name changes no cache, in a decoder of any architecture."""
    lower = name.lower()
    if lower in NAMES or _BEGINNINGS.fullmatch(lower):
        return True
    return bool(_ENDINGS.fullmatch(lower)) and not _DOUBTFUL.search(lower)
