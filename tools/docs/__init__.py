"""The documentation as a site: reference pages from the code, one tree of pages, the build, and the checks of it.

`reference` writes the generated pages, `pages` collects all pages, `build` calls the site generator, `check` reads what
it built. `python -m tools.docs` does them in this order.
"""
