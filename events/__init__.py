"""What comes in: types of events, their columns for a model, the rule of instalments, the catalogue of reasons and its
counterfactuals, and how text from outside is shown. Both `stream` and `model` read this package; it imports no other
package of the project and does no I/O.
"""
