"""What moves data from exchanges into tables, generic over ``TableSpec``."""
