"""Words in a shell -> calls of the library.

`main` is the `vggft` program, `options` makes command-line options of the fields of configurations, `defaults` reads
`--config`, and there is a module for each group of commands. Begin reading with `main`.
"""
