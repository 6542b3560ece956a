"""The operations in plain torch, on any device: the oracle of the GPU's, and what tests of the table path run on."""

from hisparse_engine.ops.reference.attention import attend as attend
from hisparse_engine.ops.reference.clock import add_time as add_time
from hisparse_engine.ops.reference.select import select as select
from hisparse_engine.ops.reference.select import store_index_keys as store_index_keys
from hisparse_engine.ops.reference.swap_in import backup_rows as backup_rows
from hisparse_engine.ops.reference.swap_in import copy_rows as copy_rows
from hisparse_engine.ops.reference.swap_in import locate as locate
from hisparse_engine.ops.reference.swap_in import move_rows as move_rows
from hisparse_engine.ops.reference.swap_in import plan_swap_in as plan_swap_in
from hisparse_engine.ops.reference.swap_in import shrink_buffer as shrink_buffer
