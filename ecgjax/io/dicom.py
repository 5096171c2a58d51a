"""A recording as a DICOM 12-lead ECG waveform object, PS3.3 A.34.3."""

import datetime

import numpy as np

from ecgjax.ecg.errors import ECGError
from ecgjax.ecg.leads import LEADS
from ecgjax.io import atomic
from ecgjax.io.formats import DICOM_RATES_HZ as RATES_HZ
from ecgjax.io.waveform_files import ABSENT, microvolts

TWELVE_LEAD = '1.2.840.10008.5.1.4.1.1.9.1.1'
SAMPLES = 16384  # at most, and RATES_HZ: what A.34.3.4 lets it hold
# MDC codes of the leads, PS3.16 CID 3001
MDC = {
  'I': ('2:1', 'Lead I'), 'II': ('2:2', 'Lead II'), 'III': ('2:61', 'Lead III'), 'aVR': ('2:62', 'aVR, augmented voltage, right'),
  'aVL': ('2:63', 'aVL, augmented voltage, left'), 'aVF': ('2:64', 'aVF, augmented voltage, foot'),
  **{f'V{n}': (f'2:{n + 2}', f'Lead V{n}') for n in range(1, 7)},
}  # fmt: skip


def write_dicom(path, mv: np.ndarray, *, fs: float) -> None:
  """Writes a waveform object without a patient: 16 bits, 1 uV a step, absent samples as its padding value.

  Args:
    path: to write.
    mv: (T, 12) mV in the order of leads.LEADS, nan where nothing was printed.
    fs: Hz.

  Raises:
    ECGError: if a value is beyond waveform_files.MAX_MV, or rate or length are not what the object may have.
  """
  import pydicom  # whole: `from pydicom.dataset` would not wait where another thread is importing the rest, which save_as needs
  from pydicom.uid import ExplicitVRLittleEndian, generate_uid

  if not (RATES_HZ[0] <= fs <= RATES_HZ[1] and len(mv) <= SAMPLES):
    raise ECGError(f'{len(mv)} samples at {fs:g} Hz; a DICOM 12-lead ECG has at most {SAMPLES} at {RATES_HZ[0]} to {RATES_HZ[1]} Hz')
  file, now = pydicom.Dataset(), datetime.datetime.now()
  file.file_meta = pydicom.FileMetaDataset()
  file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
  file.SOPClassUID = TWELVE_LEAD
  file.SOPInstanceUID, file.StudyInstanceUID, file.SeriesInstanceUID = generate_uid(), generate_uid(), generate_uid()
  file.Modality, file.Manufacturer, file.ManufacturerModelName = 'ECG', '', 'ecgjax'
  file.PatientName = file.PatientID = file.PatientBirthDate = file.PatientSex = ''
  file.StudyDate = file.StudyTime = file.ReferringPhysicianName = file.StudyID = file.AccessionNumber = ''
  file.SeriesNumber, file.InstanceNumber = 1, 1
  file.ContentDate, file.ContentTime = now.strftime('%Y%m%d'), now.strftime('%H%M%S')
  file.AcquisitionDateTime = now.strftime('%Y%m%d%H%M%S')  # it must not be empty; when the heart beat so, a picture does not tell
  file.InstitutionName = ''
  file.ImageComments = 'Digitised from a picture of paper; dates are of that. Research software, not a medical device.'
  file.WaveformSequence = [_waveform(microvolts(mv), fs=fs)]
  file.AcquisitionContextSequence = []
  atomic.whole(path, lambda part: file.save_as(part, enforce_file_format=True))


def _waveform(steps: np.ndarray, *, fs: float):
  import pydicom

  wave = pydicom.Dataset()
  wave.MultiplexGroupTimeOffset, wave.WaveformOriginality = 0, 'DERIVED'
  wave.NumberOfWaveformChannels, wave.NumberOfWaveformSamples, wave.SamplingFrequency = len(LEADS), len(steps), f'{fs:.10g}'
  wave.ChannelDefinitionSequence = [_channel(lead) for lead in LEADS]
  wave.WaveformBitsAllocated, wave.WaveformSampleInterpretation = 16, 'SS'
  wave.add_new('WaveformPaddingValue', 'OW', np.int16(ABSENT).tobytes())
  wave.add_new('WaveformData', 'OW', steps.astype('<i2').tobytes())
  return wave


def _channel(lead: str):
  import pydicom

  channel = pydicom.Dataset()
  channel.ChannelLabel = lead
  channel.ChannelSourceSequence = [_code(*MDC[lead], scheme='MDC')]
  channel.ChannelSensitivity, channel.ChannelSensitivityCorrectionFactor = 1.0, 1.0
  channel.ChannelSensitivityUnitsSequence = [_code('uV', 'microvolt', scheme='UCUM')]
  channel.ChannelBaseline, channel.ChannelSampleSkew, channel.WaveformBitsStored = 0.0, 0.0, 16
  return channel


def _code(value: str, meaning: str, *, scheme: str):
  import pydicom

  code = pydicom.Dataset()
  code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
  return code
