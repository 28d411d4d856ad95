cat >/dev/null
D=$(ls -d /tmp/hunt-D/o/logs/u/ev/*/ | tail -1)
sed -i 's/"timeout_seconds": .*/"timeout_seconds": 1.8e19,/' $D/metadata.json
sleep 4
