"""The console: the broker in a web browser, on the port of the API and by its rules.

What pages show is what the API answers, asked within the process with the rights of whoever looks
(``asking``); what forms do is what its requests do. So there is nothing here that may be seen or done by
somebody who may not do it over the API. Pages are made of templates that escape whatever comes from the
broker, and everything they load comes from it too (``static``). Imported at the first connection over HTTP;
Jinja2 at the first page.
"""
