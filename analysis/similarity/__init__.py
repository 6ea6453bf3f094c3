"""Similarity of representations: CKA, CCA and RSA."""

from layerprobe.analysis.similarity.cca import CanonicalCorrelations as CanonicalCorrelations, ridge_cca as ridge_cca
from layerprobe.analysis.similarity.cka import debiased_cka as debiased_cka
from layerprobe.analysis.similarity.rsa import Rsa as Rsa, rsa as rsa
