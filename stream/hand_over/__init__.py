"""Handing the live outputs over from one application to another one."""
