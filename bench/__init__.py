"""Speed against what there is: `make bench`. Not part of the wheel."""
