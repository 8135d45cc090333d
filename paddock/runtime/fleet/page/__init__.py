"""report.html: a batch to look at, as one file that needs no network.

`overview` reads the ledger, `details` the files of tasks, and `document` puts both into the page.
Everything that a task could have written is data in a block of JSON, which the page's script
shows as text and never as markup.
"""
