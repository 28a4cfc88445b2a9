"""The first lollms.yaml: what there is to set, with the defaults. Pure."""

from typing import Final

TEMPLATE: Final = """\
# The state of the LoLLMs gateway. Programs that select a binding, a model or a personality change it here;
# everything else is yours to set, and what you write, comments too, is kept. Address, port, personality folders and
# the like are not here but in the module's own configuration, under [gateway.lollms].

# The binding (the provider) and its model; null for none.
binding_name: null
model_name: null

# The personalities that are mounted, as language/category/name; and which of them is active, counted from 0 (-1: none).
personalities:
- english/generic/lollms
active_personality_id: 0

# What stands between the turns of a discussion; it ends an answer too.
discussion_prompt_separator: "!@>"

# The longest answer and the whole context, in tokens. What does not fit of a discussion is left out, the oldest first.
n_predict: 1024
ctx_size: 2048

# How a model picks its words, where neither the program nor the personality says so. Seed -1: a new one each time.
temperature: 0.9
top_k: 50
top_p: 0.95
repeat_last_n: 40
repeat_penalty: 1.2
seed: -1

# What personalities say about the six above (model_temperature and so on) counts for nothing.
override_personality_model_parameters: false

# Who you are, and whether the personality is told.
user_name: user
use_user_name_in_discussions: false
"""
