"""Reports that people read: drift, outlook, explanation, faithfulness, monitoring. `stream` imports nothing of this."""
