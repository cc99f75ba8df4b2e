//! What every sink shares: reading requests once, delivery, receipts.
