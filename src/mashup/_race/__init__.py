"""Race: several starts and learning rates under one budget; see :mod:`mashup._race.race`."""
