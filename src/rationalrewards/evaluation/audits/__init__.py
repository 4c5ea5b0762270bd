"""What else moves a verdict than the images: places, aspects that move together, lengths, names, damage,
repeats.
"""
