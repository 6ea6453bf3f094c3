"""How alike two representations of the same utterances are: CKA, CCA and RSA of arrays, and of all layers of a run."""

from layerprobe.analysis.similarity.cca import CanonicalCorrelations as CanonicalCorrelations, ridge_cca as ridge_cca
from layerprobe.analysis.similarity.cka import debiased_cka as debiased_cka
from layerprobe.analysis.similarity.rsa import Rsa as Rsa, rsa as rsa
