"""Words in a shell -> calls of the library.

`main` is the `vggft` program, `options` turns the fields of configurations into command-line options, `defaults` reads
`--config`, and there is a module for each group of commands. Begin reading with `main`.
"""
