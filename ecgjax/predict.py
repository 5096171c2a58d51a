"""python -m ecgjax.predict: reads a competition's test folder into a submission; the same as `ecgjax predict`."""

import sys

from ecgjax.competition import predict

if __name__ == '__main__':
  sys.exit(predict.main())
