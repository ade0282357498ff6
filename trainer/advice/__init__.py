"""What a recipe costs and what it does to gradients: the columns that ``lpref compare`` adds to the losses.

    formula.py    bits that the recipe says: memory of weights, saved activations, optimizer and gradients; bit operations of the products
    measured.py   the same memory as it lies in arrays, and the error of every layer's weight gradient against float32
    columns.py    both, as the columns of a comparison
"""
