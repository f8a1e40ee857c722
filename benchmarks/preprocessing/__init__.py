"""The contenders of benchmarks/preprocess.py, the rows they all read, and what they must agree on.

Each contender does the same: read Parquet; part the rows that keep types, ranges, nulls and closed
sets from those that do not, which are written beside with what is wrong; find the 16-quantiles of
every number and the values of every category that come 20 times, on good rows alone; make each
number its place among its quantiles (-1 for null) as a float32 and each category its place among
its values in alphabetical order (0 unseen or rare, 1 null, then the values) as an int32; write
Parquet with id and time, compressed by snappy.
"""
