"""How complete the recorded data is."""
