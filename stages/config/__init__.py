"""Every option, typed once; nothing here imports torch."""
