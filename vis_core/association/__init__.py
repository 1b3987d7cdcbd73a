"""Who is who: pure functions that decide identity from light data of one video."""
