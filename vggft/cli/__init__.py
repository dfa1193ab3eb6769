"""Words in a shell -> calls of the library.

`main` is the `vggft` program, `options` makes command-line options from the configuration's dataclasses, and there is
a module for each group of commands. Begin reading with `main`.
"""
